"""`bnbench.load` and `bnbench.report`: a results folder as a `Comparison`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bnbench.api.arguments import PathLike, path_of, words_of
from bnbench.api.comparison import Comparison
from bnbench.api.summaries import load_results, rewrite_summaries, summarize_results
from bnbench.base.words import ENGLISH, known_language
from bnbench.results import ResultsFolder


def load(folder: PathLike) -> Comparison:
    """The result that a folder holds, as `compare` returned it. Nothing is trained or written.

    Works without torch. Raises ResultsError where the folder holds no results.

    Examples
    --------
    >>> import bnbench
    >>> bnbench.load("results/quickstart").to_pandas("runs")
    """
    path = path_of(folder)
    results = load_results(ResultsFolder(path))
    return Comparison(path, summarize_results(results), results)


def report(folder: PathLike, *, fail_if: str | Iterable[str] = (), language: str = ENGLISH) -> Comparison:
    """The result that a folder holds; its summary.json, summary.csv and report.html are written again.

    Works without torch. A folder that can't be written is a warning of the Comparison. Raises ResultsError where
    the folder holds no results.

    Parameters
    ----------
    folder
        A folder that `compare` or `train` wrote.
    fail_if
        Conditions such as "batch.test_accuracy < 0.95"; see `Comparison.gates`.
    language
        Of captions and claims: "en" or "cs".
    """
    place = ResultsFolder(path_of(folder))
    results = load_results(place)
    summary = summarize_results(results, words_of("fail_if", fail_if))
    summary = replace(summary, language=known_language(language))
    if warning := rewrite_summaries(place, results, summary):
        summary = replace(summary, warnings=(*summary.warnings, warning))
    return Comparison(place.path, summary, results)
