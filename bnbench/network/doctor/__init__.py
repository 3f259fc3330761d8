"""Findings about the normalizations of a network: one rule a function."""
