"""Layered pictures of characters on disk: their one form, and their labels."""
