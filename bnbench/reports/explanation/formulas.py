"""The formulas of a normalizer's steps, each as text of at most 40 columns and as LaTeX.

The letters are those of Ioffe & Szegedy 2015, and of Ba et al. 2016 where statistics are over features.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnbench.base.worked_steps import WorkedSteps


@dataclass(frozen=True)
class Formula:
    """text: for a terminal. latex: for math mode."""

    text: str
    latex: str


class Formulas:
    """The formulas of one normalizer: letters for its statistics, and what it leaves out left out."""

    def __init__(self, worked: WorkedSteps) -> None:
        self.worked = worked
        samples = worked.over_samples
        #: The index of a value, of a statistic, and what is summed over.
        self.at, self.of = ("i", "B") if samples else ("ij", "i")
        self.index = "" if samples else "j"
        self.count, self.over = ("N", "i") if samples else ("F", "j")
        self.square = Formula(f"σ_{self.of}²", rf"\sigma_{self.of}^2")
        if not worked.centres:
            self.square = Formula(f"r_{self.of}²", rf"r_{self.of}^2")
        self.mean_of = Formula(f"μ_{self.of}", rf"\mu_{self.of}")

    def mean(self) -> Formula:
        """The mean."""
        return Formula(
            f"μ_{self.of} = 1/{self.count} Σ x_{self.at}",
            f"{self.mean_of.latex} = {self._sum('x_' + self._index())}",
        )

    def var(self) -> Formula:
        """The biased variance, or the mean square where nothing is centred."""
        if not self.worked.centres:
            return Formula(
                f"{self.square.text} = 1/{self.count} Σ x_{self.at}²",
                f"{self.square.latex} = {self._sum('x_' + self._index() + '^2')}",
            )
        term = f"(x_{self._index()} - {self.mean_of.latex})^2"
        return Formula(
            f"{self.square.text} = 1/{self.count} Σ (x_{self.at} − μ_{self.of})²",
            f"{self.square.latex} = {self._sum(term)}",
        )

    def x_hat(self) -> Formula:
        """The normalized value."""
        hat = Formula(f"x̂_{self.at}", rf"\hat{{x_{{{self.at}}}}}")
        above = Formula(f"x_{self.at}", f"x_{{{self.at}}}")
        if self.worked.centres:
            above = Formula(f"{above.text} − μ_{self.of}", f"{above.latex} - {self.mean_of.latex}")
        if not self.worked.divides:
            return Formula(f"{hat.text} = {above.text}", f"{hat.latex} = {above.latex}")
        numerator = f"({above.text})" if self.worked.centres else above.text
        return Formula(
            f"{hat.text} = {numerator} / {self._root().text}",
            rf"{hat.latex} = \frac{{{above.latex}}}{{{self._root().latex}}}",
        )

    def y(self) -> Formula:
        """The output."""
        gamma, beta = self._factor(), self._parameter("β", r"\beta", self.worked.beta is not None)
        plus = " + " if beta.text else ""
        return Formula(
            f"y_{self.at} = {gamma.text}x̂_{self.at}{plus}{beta.text}",
            rf"y_{{{self.at}}} = {gamma.latex}\hat{{x_{{{self.at}}}}}{plus}{beta.latex}",
        )

    def g(self) -> Formula:
        """The gradient of the normalized value."""
        gamma = self._factor()
        return Formula(
            f"g_{self.at} = {gamma.text}dy_{self.at}", f"g_{{{self.at}}} = {gamma.latex}dy_{{{self.at}}}"
        )

    def _factor(self) -> Formula:
        gamma = self._parameter("γ", r"\gamma", self.worked.gamma is not None)
        return Formula(f"{gamma.text} ", rf"{gamma.latex}\,") if gamma.text else gamma

    def _parameter(self, text: str, latex: str, is_there: bool) -> Formula:
        """gamma or beta with the index of its feature, or nothing."""
        index = f"_{self.index}" if self.index else ""
        return Formula(f"{text}{index}", f"{latex}{index}") if is_there else Formula("", "")

    def means_of_g(self) -> list[Formula]:
        """What is taken out of the gradient."""
        formulas = []
        if self.worked.centres:
            mean = self._sum(f"g_{self._index()}")
            formulas.append(Formula(f"a = 1/{self.count} Σ g_{self.at}", f"a = {mean}"))
        if self.worked.divides:
            mean = self._sum(rf"g_{self._index()} \hat{{x_{self._index()}}}")
            formulas.append(Formula(f"b = 1/{self.count} Σ g_{self.at} x̂_{self.at}", f"b = {mean}"))
        return formulas

    def dx(self) -> Formula:
        """The gradient of the input."""
        text, latex = f"g_{self.at}", f"g_{{{self.at}}}"
        if self.worked.centres:
            text, latex = f"{text} − a", f"{latex} - a"
        if not self.worked.divides:
            return Formula(f"dx_{self.at} = {text}", f"dx_{{{self.at}}} = {latex}")
        return Formula(
            f"dx_{self.at} = ({text} − b x̂_{self.at}) / {self._root().text}",
            rf"dx_{{{self.at}}} = \frac{{{latex} - b\,\hat{{x_{{{self.at}}}}}}}{{{self._root().latex}}}",
        )

    def running(self) -> list[Formula]:
        """The rules of the running statistics."""
        factor = ("", "") if self.worked.biased else ("N/(N−1) ", r"\frac{N}{N-1}\,")
        return [
            Formula("μ_R ← (1 − m) μ_R + m μ_B", r"\mu_R \leftarrow (1 - m)\,\mu_R + m\,\mu_B"),
            Formula(
                f"σ_R² ← (1 − m) σ_R² + m {factor[0]}σ_B²",
                rf"\sigma_R^2 \leftarrow (1 - m)\,\sigma_R^2 + m\,{factor[1]}\sigma_B^2",
            ),
        ]

    def _index(self) -> str:
        """The index of a value in LaTeX."""
        return f"{{{self.at}}}"

    def _root(self) -> Formula:
        return Formula(f"√({self.square.text} + ε)", rf"\sqrt{{{self.square.latex} + \epsilon}}")

    def _sum(self, term: str) -> str:
        return rf"\frac{{1}}{{{self.count}}} \sum_{{{self.over}=1}}^{{{self.count}}} {term}"
