"""The report as one HTML file: nothing in it is fetched from anywhere, so it can be mailed and kept."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

from bnbench.analysis.contents import Summary
from bnbench.base.errors import ResultsError
from bnbench.base.files import to_json, write_whole
from bnbench.base.terminal import visible
from bnbench.reports.figures import charts
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.all import Figure, figures, specification
from bnbench.reports.figures.data import Row
from bnbench.reports.figures.files import least_width
from bnbench.reports.sentences.verdicts import speed_sentences, verdict_sentences
from bnbench.reports.tables.all import layer_lists, tables
from bnbench.results import StudyResults


def to_html(summary: Summary, results: StudyResults) -> str:
    """The verdicts, figures, tables, layers, study and environment of a results folder."""
    import jinja2

    found = figures(summary)
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown).from_string(
        _file("page.html")
    )
    return page.render(
        summary=summary,
        description=results.study.get("description", ""),
        verdicts=[*verdict_sentences(summary), *speed_sentences(summary)],
        figures=[figure for figure in found if not figure.name.startswith("train_")],
        legend=_legend(summary),
        settings=_settings(summary),
        log=any(figure.log for figure in found),
        least_width=lambda figure: least_width(figure, _FONT_SIZE),
        tables=tables(summary),
        layers=layer_lists(summary),
        study=_yaml(results.study),
        environment=_yaml(results.environment),
        data=_data(summary, found),
        css=_file("page.css"),
        javascript=_file("page.js"),
        library=_library() if found else "",
    )


def _shown(value: Any) -> Any:
    """Text with its control characters written out: none turns the page's text around. Markup is ours."""
    return visible(value) if type(value) is str else value


#: Of the figures in the page; see page.js.
_FONT_SIZE = 12


def _file(name: str) -> str:
    return (resources.files("bnbench.reports") / "page" / name).read_text(encoding="utf-8")


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and their embedding as one script. Bundling takes seconds, so it is kept for the next time."""
    import vl_convert
    from platformdirs import user_cache_path

    kept = user_cache_path("bnbench") / f"vega-{vl_convert.__version__}.js"  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if text := kept.read_text(encoding="utf-8"):
            return text
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for what has a default
    text = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(ResultsError, OSError):  # no cache, no harm
        write_whole(kept, text)
    return text


def _legend(summary: Summary) -> list[tuple[str, str, str]]:
    """Name, colour and dash pattern of every variant."""
    names = figure_data.variant_names(summary)
    patterns = [" ".join(map(str, dash)) for dash in charts.dashes(names)]
    return list(zip(names, charts.colours(names), patterns, strict=True))


def _settings(summary: Summary) -> list[str]:
    if not summary.best_settings:
        return []
    return list(dict.fromkeys(figure_data.setting_text(variant.setting) for variant in summary.variants))


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True) if values else "not known"


def _data(summary: Summary, found: Sequence[Figure]) -> str:
    """What the page's script reads: charts and rows. "<" is escaped: no text can end the script."""
    drawn = [figure for figure in found if not figure.name.startswith("train_")]
    values = {
        "figures": {
            figure.name: {
                "title": figure.title,
                "words": figure.alternative,
                "spec": specification(figure, zoom=True),
                "data": list(figure.data),
                "controls": figure.controls,
                "row_height": figure.row_height,
            }
            for figure in drawn
        },
        "data": {name: pack(rows) for figure in drawn for name, rows in figure.data.items()},
        "best": figure_data.best_settings(summary),
        "settings": _settings(summary),
    }
    return to_json(values, ascii=True, compact=True).replace("<", "\\u003c")


def pack(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as columns, each text once: a tenth of the size. texts: of a column of texts, the list it points into."""
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    texts: dict[str, list[str]] = {}
    for name, values in columns.items():
        if all(isinstance(value, str) for value in values):
            texts[name] = list(dict.fromkeys(values))
            places = {text: place for place, text in enumerate(texts[name])}
            columns[name] = [places[value] for value in values]
    return {"columns": columns, "texts": texts}
