"""Pages in, masks of body parts out: `python -m seethrough.partseg`."""
