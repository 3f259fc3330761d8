"""Files of a network that was converted or folded: written, and built again from them without pickle."""

from bnbench.network.files.rebuild import check_source, read_table, rebuild_in
from bnbench.network.files.savable import Origin, Savable
from bnbench.network.files.save import Saved, check_free, save

__all__ = ["Origin", "Savable", "Saved", "check_free", "check_source", "read_table", "rebuild_in", "save"]
