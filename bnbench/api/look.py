"""`bnbench.look`: the command of this name as a function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from bnbench.api.arguments import ModelLike, Overrides, PathLike, Seeds, StudyLike, override_words
from bnbench.api.compare import QUICKSTART, compare
from bnbench.api.comparison import Comparison
from bnbench.base.running import Running
from bnbench.listeners import Hears


def with_probe(overrides: Sequence[str]) -> list[str]:
    """The overrides, with the default probe where they say nothing of one; a study's own counts then.

    >>> with_probe(["epochs=0"])
    ['epochs=0', 'probe=true']
    """
    given = any(word.partition("=")[0].partition(".")[0] == "probe" for word in overrides)
    return [*overrides] if given else [*overrides, "probe=true"]


# Each option is an argument of its own, as for `compare`.
def look(
    study: StudyLike = QUICKSTART,
    *,
    overrides: Overrides = (),
    seeds: Seeds | None = None,
    output: PathLike | None = None,
    listeners: Hears | Iterable[Hears] = (),
    device: str = "auto",
    jobs: int | None = None,
    plugins: PathLike | Iterable[PathLike] = (),
    model: ModelLike | None = None,
    data_dir: PathLike | None = None,
    force: bool = False,
    refresh: Literal["changed"] | None = None,
    running: Running | None = None,
) -> Comparison:
    """Train every variant of a study with probes, and compare what they see inside the networks.

    The study's own `probe` counts, else the default one. With ``overrides={"epochs": 0}`` the networks are looked at
    before any training. The parameters are those of `compare`.

    Returns
    -------
    Comparison
        `Comparison.inside` has the indices with their intervals, `Comparison.probes` every number.

    Raises
    ------
    BnbenchError
        Everything that is wrong with the arguments, the study or the folder; a `ConfigError` has all mistakes.

    Examples
    --------
    >>> import bnbench
    >>> comparison = bnbench.look("quickstart", seeds=3)
    >>> comparison.to_pandas("inside")
    >>> comparison.save_figures("plots")
    """
    return compare(
        study,
        overrides=with_probe(override_words(overrides)),
        seeds=seeds,
        output=output,
        listeners=listeners,
        device=device,
        jobs=jobs,
        plugins=plugins,
        model=model,
        data_dir=data_dir,
        force=force,
        refresh=refresh,
        running=running,
    )
