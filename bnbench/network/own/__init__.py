"""A network that was not written for bnbench in a study: built, fitted to the task, its normalizers replaced."""

from bnbench.network.own.build import Recipe, fit_of, own_network, said_of
from bnbench.network.own.facts import Use

__all__ = ["Recipe", "Use", "fit_of", "own_network", "said_of"]
