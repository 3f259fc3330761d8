"""`bnbench.load` and `bnbench.report`: a results folder as a `Comparison`. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bnbench.analysis.contents import Summary
from bnbench.api.arguments import PathLike, path_of, words_of
from bnbench.api.comparison import Comparison
from bnbench.api.summaries import load_results, rewrite_summaries, summarize_results
from bnbench.api.under_way import until_settled, with_left_over
from bnbench.base.words import ENGLISH, known_language
from bnbench.results import ResultsFolder, StudyResults


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
    return Comparison(path, with_left_over(summarize_results(results), results, path), results)


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
    asked, code = words_of("fail_if", fail_if), known_language(language)

    def write() -> tuple[StudyResults, Summary, str]:
        results = load_results(place)
        summary = with_left_over(summarize_results(results, asked), results, place.path)
        summary = replace(summary, language=code)
        return results, summary, rewrite_summaries(place, results, summary)

    results, summary, warning = until_settled(place.path, write)
    if warning:
        summary = replace(summary, warnings=(*summary.warnings, warning))
    return Comparison(place.path, summary, results)
