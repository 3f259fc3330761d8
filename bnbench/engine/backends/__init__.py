"""The frameworks that train."""
