"""Layered art of many programs, brought into the one form of a character."""
