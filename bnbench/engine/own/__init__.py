"""A network that was not written for bnbench in a study: built, fitted to the task, its normalizers replaced."""

from bnbench.engine.own.build import Recipe, fit_of, own_network, said_of
from bnbench.engine.own.facts import Use

__all__ = ["Recipe", "Use", "fit_of", "own_network", "said_of"]
