"""Photos in, masks of what is transparent in them out: `python -m seethrough.segment`."""
