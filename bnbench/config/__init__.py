"""A study: YAML and key=value overrides in, one typed, frozen `Study` out, or all its mistakes at once."""

from bnbench.config.cautions import cautions_of
from bnbench.config.check import Vocabulary
from bnbench.config.json_schema import json_schema
from bnbench.config.names import name_fault
from bnbench.config.resolved import resolved
from bnbench.config.schema import (
    CHOICES,
    DEFAULT_PRIMARY,
    MATCH_BASELINE,
    Choice,
    Margin,
    Settings,
    Study,
    StudyCell,
    Target,
)
from bnbench.config.study import load_study, load_variant
from bnbench.config.vary import DEFAULT_VARY, fixed_sentence
from bnbench.config.yaml_source import read_yaml, to_yaml

__all__ = [
    "CHOICES",
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
    "load_study",
    "load_variant",
    "name_fault",
    "read_yaml",
    "resolved",
    "to_yaml",
]
