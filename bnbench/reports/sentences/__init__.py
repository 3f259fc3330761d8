"""Sentences on the results."""
