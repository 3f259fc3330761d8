"""Where a network normalizes: `NormSite`, found by trials, with what stands around it."""
