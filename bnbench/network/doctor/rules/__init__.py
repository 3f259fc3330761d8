"""The rules of `bnbench doctor`. To add one: one function in a file here, or in a plugin.

A rule looks at a `Patient` and yields a `Symptom` for each place where something is wrong:

    @rules.register("D06", title="useless bias", severity="warning", cost="...")
    def useless_bias(patient: Patient) -> Iterator[Symptom]:
        '''A layer's bias is taken out by the normalization that follows it. ...'''

Its docstring is its page: the documentation and `bnbench doctor --explain D06` show it. The paragraphs that begin with
"Evidence:", "Meant:", "Fix:" and "Threads:" have their own place in it; a thread is written as owner/repository#1.
An error is only what is certainly wrong; what may be meant is a warning or a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bnbench.base.network_records import Severity
from bnbench.base.registry import Registry


@dataclass(frozen=True)
class RuleFacts:
    """Facts on a rule. cost: one sentence on what it does to training or to results.

    needs: of forward, data, optimizer and checkpoint, what it can't do without.
    """

    title: str
    cost: str
    severity: Severity = "warning"
    needs: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Symptom:
    """What a rule found in one place. place: a qualified name, "" for the network. evidence: one number.

    measure: the number's name and unit. message: the same words for all places that are alike, without their names and
    numbers, so that the table can show them in one line. fix: text to follow or to paste, with the place's name.
    severity, cost: those of the rule where nothing is given.
    """

    place: str
    evidence: float
    measure: str
    message: str
    fix: str
    severity: Severity | None = None
    cost: str = ""


rules = Registry("rule", __name__, RuleFacts)
