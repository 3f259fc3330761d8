"""What a results folder says: when a target was reached, how variants differ, and whether it can be trusted."""
