"""`bnbench.check`: the plan and the cost of a study, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bnbench.api.arguments import (
    DEVICES,
    ModelLike,
    Overrides,
    PathLike,
    Seeds,
    StudyLike,
    choice_of,
    data_folder,
    override_words,
    paths_of,
    study_of,
)
from bnbench.api.own_models import with_model
from bnbench.api.plugins import forget_plugins, known_names
from bnbench.api.preparing import check_temporary_folder
from bnbench.api.several import load_studies
from bnbench.base.errors import ConfigError
from bnbench.base.user_code import guarded
from bnbench.study import ARGUMENT, Study
from bnbench.study.plan import CellEstimate


@dataclass(frozen=True)
class CheckedStudy:
    """A study without mistakes: its plan, and an estimate for each variant (at each setting of a sweep)."""

    study: Study
    estimates: tuple[CellEstimate, ...]

    @property
    def num_runs(self) -> int:
        """How many runs are planned; with `seeds: auto`, at most."""
        return len(self.study.cells) * len(self.study.seeds)

    @property
    def seconds(self) -> float:
        """Estimated duration of all runs, one after the other."""
        return sum(cell.seconds for cell in self.estimates) * len(self.study.seeds)

    @property
    def warnings(self) -> list[str]:
        """What will limit the answer."""
        of_cells = (text for cell in self.estimates for text in cell.warnings)
        return list(dict.fromkeys([*self.study.warnings, *of_cells]))

    @property
    def cells(self) -> list[dict[str, Any]]:
        """One record a variant (at a setting): parameters, steps, and the seconds and bytes of one run."""
        return [
            {**asdict(cell), "notes": list(cell.notes), "warnings": list(cell.warnings)}
            for cell in self.estimates
        ]

    def __repr__(self) -> str:
        size = f"{len(self.estimates)} x {len(self.study.seeds)} seeds = {self.num_runs} runs"
        return f"{self.study.name}: {size}, about {self.seconds:.3g} s, one after the other"


def check(
    study: StudyLike,
    *,
    overrides: Overrides = (),
    seeds: Seeds | None = None,
    device: str = "auto",
    plugins: PathLike | Iterable[PathLike] = (),
    model: ModelLike | None = None,
    data_dir: PathLike | None = None,
) -> CheckedStudy:
    """Check a study without training: its planned runs and the estimated cost.

    The parameters are those of `compare`. Raises ConfigError with every mistake of the study.

    Examples
    --------
    >>> import bnbench
    >>> bnbench.check("quickstart").num_runs
    15
    """
    from bnbench.engine.process import training_process

    words, networks = with_model(override_words(overrides, seeds), model)
    files = paths_of(plugins)
    with training_process():
        try:
            (checked,) = load_studies([study_of(study)], known_names(files, words, networks), ARGUMENT)
            estimates = estimate(
                checked, choice_of("device", device, DEVICES), data_folder(data_dir), lambda text: None
            )
            return CheckedStudy(checked, tuple(estimates))
        finally:
            forget_plugins()


def estimate(
    study: Study, device: str, data_dir: Path, progress: Callable[[str], None]
) -> list[CellEstimate]:
    """The cost of every cell of the study. progress: called with the next step, in words."""
    from bnbench.engine.data_notes import class_mistakes, early_notes
    from bnbench.engine.device import pick_device
    from bnbench.engine.estimate import estimate_study
    from bnbench.engine.library import Library

    check_temporary_folder()
    torch_device = pick_device(device)  # type: ignore[arg-type]
    library = Library(data_dir, torch_device)
    with guarded():
        estimates = estimate_study(study, torch_device, library, progress)
    variants = study.variants.values()
    if mistakes := list(class_mistakes(variants, library, study.asked_columns, loads=False)):
        raise ConfigError(mistakes)
    return [
        replace(cell, notes=early_notes(of.settings, library))
        for cell, of in zip(estimates, study.cells, strict=True)
    ]
