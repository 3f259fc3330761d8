"""The methods by which a conversion and a folding are written to files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from bnbench.base.errors import ResultsError
from bnbench.base.network_records import Proof, SiteRecord
from bnbench.base.registry import Entry

if TYPE_CHECKING:
    from bnbench.network.files.save import Saved


@dataclass(frozen=True)
class Origin:
    """Where a network came from. word: MODEL with its options, "" for a module of a program. seed: of its weights."""

    word: str = ""
    source_hash: str = ""
    num_classes: int | None = None
    in_channels: int | None = None
    seed: int = 0


class Savable:
    """Base of `Conversion` and `Folding`. original: the network as it was. entries: normalizers of the user's own."""

    model: nn.Module
    sites: Sequence[SiteRecord]
    proofs: Sequence[Proof]
    original: nn.Module | None
    origin: Origin
    entries: tuple[Entry, ...] = ()

    def save(self, path: str | Path, *, force: bool = False) -> Saved:
        """Write X.safetensors (the state_dict) and X.json (the table), for `bnbench.rebuild`.

        force: write over files that are there. Raises ResultsError where one is there or can't be written, or where
        the files could not give this network again, or where a proof has failed.
        """
        self._check_proofs()
        from bnbench.network.files.save import save

        if self.original is None:
            raise ResultsError("The original network is not known, so that nothing says what was changed.")
        return save(self, path, self.original, self.origin, entries=self.entries, force=force)

    def export(self, path: str | Path, inputs: Callable[[int], Any], *, force: bool = False) -> Proof:
        """Write path, X.pt2, by torch.export, load it again and compare the outputs.

        inputs: from a number of samples to what the network is called with. Raises ResultsError.
        """
        self._check_proofs()
        from bnbench.network.files.export import export

        return export(self.model, inputs, path, force=force)

    def _check_proofs(self) -> None:
        """Raises ResultsError where a proof has failed: such a network is not to be used."""
        failed = [proof.name for proof in self.proofs if proof.passed is False]
        if failed:
            raise ResultsError(f"nothing is written: the proof {' and '.join(failed)} has failed.")
