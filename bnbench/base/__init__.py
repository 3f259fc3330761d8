"""What every room may use: errors, names, metrics, seeds, the clock, the user's own code."""
