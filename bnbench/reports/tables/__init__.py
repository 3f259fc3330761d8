"""Every table of a study, as data and as text."""
