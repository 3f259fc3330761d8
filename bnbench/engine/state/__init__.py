"""The state of a run in training: what it holds, and going on from it bit for bit."""
