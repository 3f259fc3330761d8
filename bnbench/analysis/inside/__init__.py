"""What the probes saw inside the networks, over seeds: indices and their paired comparisons, layers, histograms."""
