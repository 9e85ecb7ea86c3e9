"""Training: one loop, recipes."""
