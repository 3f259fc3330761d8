"""A study, or several, as a document that others read: one file a format.

Every module here with a function under `@output_format` adds a format: to `--format`, to its help, and to the tests
that hold all formats. Nothing heavy is imported before one is written, since the command line asks for the names.
"""

from __future__ import annotations

import importlib
import pkgutil

from bnbench.reports.formats.registry import FORMATS, Document, output_format

__all__ = ["FORMATS", "Document", "output_format"]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
