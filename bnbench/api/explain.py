"""`bnbench.explain`: the steps of a normalizer on one small batch, with their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from bnbench.api.arguments import choice_of
from bnbench.base.words import ENGLISH, LANGUAGES
from bnbench.base.worked_steps import WorkedSteps


@dataclass(frozen=True)
class Explanation:
    """The steps of a normalizer. worked: every number; language: of the words, "en" or "cs"."""

    worked: WorkedSteps
    language: str = ENGLISH

    def to_text(self, width: int = 80, encoding: str = "utf-8") -> str:
        """For a terminal of that many columns, 40 or more. Letters that the encoding lacks are words: mu, x_hat."""
        from bnbench.reports.explanation.formats import as_text

        return as_text(self.worked, self.language, width, encoding)

    def to_markdown(self) -> str:
        """Markdown with formulas, for a notebook, a README or an issue."""
        from bnbench.reports.explanation.formats import as_markdown

        return as_markdown(self.worked, self.language)

    def to_latex(self) -> str:
        """A LaTeX document, one page a part; it compiles by itself."""
        from bnbench.reports.explanation.formats import as_latex

        return as_latex(self.worked, self.language)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def explain(norm: str = "batch", *, lang: str = ENGLISH) -> Explanation:
    """The steps of a normalizer on a batch of 4 samples with 2 features: forward, backward, evaluation, a batch of one.

    Computed in float64 by the formulas, and held against the registered layer. A normalizer whose statistics are
    over features takes the same numbers as 2 samples with 4 features.

    Parameters
    ----------
    norm
        The name of a normalizer. Raises UnknownNameError where there is none, and BnbenchError where it has no
        such steps.
    lang
        Language of the words: "en" or "cs".

    Examples
    --------
    >>> import bnbench
    >>> print(bnbench.explain("batch").to_text(width=40))
    """
    from bnbench.norms.steps import work_out

    return Explanation(work_out(norm), choice_of("lang", lang, tuple(LANGUAGES)))
