"""Checkpoints of any kind looked at and converted: `python -m seethrough.checkpoint`."""
