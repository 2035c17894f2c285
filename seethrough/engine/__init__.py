"""Materializes a recipe and runs its stages."""
