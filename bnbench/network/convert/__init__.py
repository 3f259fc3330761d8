"""Another normalizer in the place of each one, with proofs."""
