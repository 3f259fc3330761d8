"""The frameworks that train, one file or folder each."""
