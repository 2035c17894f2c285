"""Labels for the layers of characters, by rules and by hand: `python -m seethrough.label`."""
