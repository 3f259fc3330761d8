"""A study: YAML and key=value overrides in, one typed, frozen `Study` out, or all its mistakes at once."""

from bnbench.study.cautions import cautions_of
from bnbench.study.check import Vocabulary
from bnbench.study.dict_source import override_texts
from bnbench.study.json_schema import json_schema
from bnbench.study.load import load_inner_study, load_study, load_variant
from bnbench.study.names import name_fault
from bnbench.study.overrides import ARGUMENT, COMMAND_LINE
from bnbench.study.resolved import resolved
from bnbench.study.schema import (
    CHOICES,
    DEFAULT_PRIMARY,
    MATCH_BASELINE,
    Margin,
    Settings,
    Study,
    StudyCell,
    Target,
)
from bnbench.study.sections import Choice
from bnbench.study.vary import DEFAULT_VARY, fixed_sentence
from bnbench.study.yaml_source import read_yaml, to_yaml

__all__ = [
    "ARGUMENT",
    "CHOICES",
    "COMMAND_LINE",
    "DEFAULT_PRIMARY",
    "DEFAULT_VARY",
    "MATCH_BASELINE",
    "Choice",
    "Margin",
    "Settings",
    "Study",
    "StudyCell",
    "Target",
    "Vocabulary",
    "cautions_of",
    "fixed_sentence",
    "json_schema",
    "load_inner_study",
    "load_study",
    "load_variant",
    "name_fault",
    "override_texts",
    "read_yaml",
    "resolved",
    "to_yaml",
]
