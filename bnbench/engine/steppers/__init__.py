"""The ways to make one optimizer step, one file each."""
