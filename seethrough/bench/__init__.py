"""What training costs, measured: `python -m seethrough.bench step` and `parts`."""
