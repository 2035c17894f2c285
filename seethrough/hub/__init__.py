"""Models to the Hugging Face hub and from it: `python -m seethrough.hub`."""
