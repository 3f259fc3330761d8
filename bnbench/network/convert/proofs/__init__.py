"""The five proofs of a conversion. Each can fail; where one can't be made, it says why."""

from bnbench.network.convert.proofs.counting import count_parameters, count_sites
from bnbench.network.convert.proofs.identity import same_as_custom
from bnbench.network.convert.proofs.round_trip import comes_back
from bnbench.network.convert.proofs.step import one_step

__all__ = ["comes_back", "count_parameters", "count_sites", "one_step", "same_as_custom"]
