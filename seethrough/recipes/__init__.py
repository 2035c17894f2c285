"""Base recipes, one file a family."""
