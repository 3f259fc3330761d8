"""The documents that a study can be written as."""
