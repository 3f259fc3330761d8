"""A study: YAML and key=value overrides in, one typed, frozen `Study` out, or all its mistakes at once."""

from bnbench.config.schema import Settings, Study, Target

__all__ = ["Settings", "Study", "Target"]
