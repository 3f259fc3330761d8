"""bnbench: does this normalization layer help this network, by how much, and can it be trusted?"""

__version__ = "0.1.0"
