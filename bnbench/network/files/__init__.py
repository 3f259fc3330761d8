"""Files of a network that was converted or folded: written, and built again from them without pickle."""

from bnbench.network.files.rebuild import check_source, read_table, rebuild_in
from bnbench.network.files.save import Origin, Saved, check_free, save

__all__ = ["Origin", "Saved", "check_free", "check_source", "read_table", "rebuild_in", "save"]
