"""One illustration in, a layered PSD in drawing order out: `python -m seethrough.decompose`."""
