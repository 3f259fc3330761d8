"""Anyone's network: where it normalizes, what a normalizer needs, which biases it makes redundant."""
