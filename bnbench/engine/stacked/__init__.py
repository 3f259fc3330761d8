"""The seeds of a variant as one network: parameters stacked, one step for all."""
