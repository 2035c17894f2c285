"""Published YAML configurations as experiment files: `python -m seethrough.import_yaml`."""
