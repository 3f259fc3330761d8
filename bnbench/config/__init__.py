"""A study: YAML and key=value overrides in, one typed, frozen `Study` out, or all its mistakes at once."""

from bnbench.config.check import Vocabulary
from bnbench.config.json_schema import json_schema
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
    "fixed_sentence",
    "json_schema",
    "load_study",
    "load_variant",
    "resolved",
]
