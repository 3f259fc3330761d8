"""The engine: runs in, events out. The only stage that trains."""
