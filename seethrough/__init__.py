"""Train and run the models that take an illustration apart into transparent layers."""
