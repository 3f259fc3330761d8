"""The site: `pip install '.[docs]'`, then `python -m sphinx -W -b html docs docs/_build/html`."""

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import reference_pages  # noqa: E402

import bnbench  # noqa: E402

reference_pages.write()

project = "bnbench"
author = "the bnbench authors"
copyright = f"2026, {author}"
version = release = bnbench.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "examples", "README.md"]
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

smartquotes = False
maximum_signature_line_length = 80
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": True}
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autosummary_generate = True

html_theme = "pydata_sphinx_theme"
html_title = "bnbench"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navbar_end": ["theme-switcher"],
}

default_role = "code"  # docstrings write names in single backticks

_ENTRY = re.compile(r"^( *)([\w.*`, ()-]{1,60}): +(\S.*)$")


def _entries_as_lists(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings list their parts as `name: meaning`, one a line; here they become bullet points."""
    if any(set(line.strip()) == {"-"} for line in lines if line.strip()):
        return  # numpydoc reads its sections itself
    result: list[str] = []
    inside = ""  # "list" or "code": what the line before belongs to
    for number, line in enumerate(lines):
        entry = _ENTRY.match(line)
        indent = len(line) - len(line.lstrip())
        if inside == "code" and (indent or not line.strip()):
            result.append(line)
        elif indent >= 4 and inside != "list" and not lines[number - 1].strip():
            result += [".. code-block:: python", "", line]
            inside = "code"
        elif entry and number:
            if inside != "list" and result[-1].strip():
                result.append("")
            result.append(f"- `{entry[2].replace('`', '')}`: {_plain(entry[3])}")
            inside = "list"
        elif inside == "list" and line.strip() and indent:
            result.append("  " + _plain(line.strip()))
        else:
            if inside and line.strip():
                result.append("")
                inside = ""
            result.append(line)
    lines[:] = result


def _plain(text: str) -> str:
    """A star outside of backticks is a star."""
    parts = text.split("`")
    parts[::2] = [part.replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def setup(app: Any) -> None:
    """Hooks."""
    app.connect("autodoc-process-docstring", _entries_as_lists, priority=400)
