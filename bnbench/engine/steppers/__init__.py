"""One step of the optimizer, in the ways that the engine knows."""
