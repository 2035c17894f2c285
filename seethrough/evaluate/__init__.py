"""How well a model segments what is transparent, on Trans10K: `python -m seethrough.evaluate`."""
