"""bnbench: does this normalization layer help this network, by how much, and can it be trusted?"""

import bnbench.base.stopwatch  # noqa: F401  (its clock starts with the package)

__version__ = "0.1.0"
