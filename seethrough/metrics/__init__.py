"""What is measured of predicted layers, and what the numbers are compared with."""
