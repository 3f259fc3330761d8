"""What a study will cost, without training it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bnbench.api.session import check_temporary_folder
from bnbench.base.errors import ConfigError
from bnbench.base.user_code import guarded
from bnbench.study import Study
from bnbench.study.plan import CellEstimate


def estimate(
    study: Study, device: str, data_dir: Path, progress: Callable[[str], None]
) -> list[CellEstimate]:
    """What every cell of the study will cost. progress: is told what is being done."""
    from bnbench.engine.data_notes import class_mistakes, early_notes
    from bnbench.engine.device import pick_device
    from bnbench.engine.estimate import estimate_study
    from bnbench.engine.execute import Library

    check_temporary_folder()
    torch_device = pick_device(device)  # type: ignore[arg-type]
    library = Library(data_dir, torch_device)
    with guarded():
        found = estimate_study(study, torch_device, library, progress)
    variants = study.variants.values()
    if mistakes := list(class_mistakes(variants, library, study.asked_columns, loads=False)):
        raise ConfigError(mistakes)
    return [
        replace(cell, notes=early_notes(of.settings, library))
        for cell, of in zip(found, study.cells, strict=True)
    ]
