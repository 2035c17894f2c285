"""Draws samples of layered characters: page, layers, depths, visible masks. Loads no torch."""
