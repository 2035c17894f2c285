"""How good predictions are, where the truth is known: `python -m seethrough.benchmark`."""
