"""Every figure of a study: its data first, then its drawing."""
