"""Normalizations folded into the layers of weights beside them, checked."""
