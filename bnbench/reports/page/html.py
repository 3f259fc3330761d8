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
from bnbench.reports.figures import data as figure_data
from bnbench.reports.figures.all import figures, leading_figures
from bnbench.reports.figures.colours import colours, dashes
from bnbench.reports.figures.data import Row
from bnbench.reports.figures.figure import FIGURES, INSIDE, Figure, specification
from bnbench.reports.figures.layout import PAGE_FONT_SIZE, least_width, legend_columns, style, title_lines
from bnbench.reports.figures.sheets import sheets_caption, shown_sheets
from bnbench.reports.sentences.headline import headline
from bnbench.reports.sentences.inside import inside_sentences
from bnbench.reports.sentences.methods import CITATION, methods_paragraph
from bnbench.reports.sentences.speed import speed_sentences
from bnbench.reports.sentences.verdicts import verdict_sentences
from bnbench.reports.tables.all import tables
from bnbench.reports.tables.layers import layer_lists
from bnbench.reports.tables.main import main_table
from bnbench.results import StudyResults

#: Pixels of a saved figure, and of the narrowest screen's column: a wider figure is scrolled in its own box.
_SAVED_WIDTH, _PHONE_WIDTH = 640, 350
#: With more variants only the first figure has its legend on the screen: the controls have it for all others.
_MOST_NAMES = 8
#: The main table stands before the figures while it leaves them room on the first screen.
_SHORT_TABLE = 10
_SECTIONS = {
    "verdict": "Verdict", "figures": "Figures", "samples": "Samples", "verdicts": "Verdicts in full",
    "inside": "Inside the network", "tables": "Tables",
    "methods": "Methods", "layers": "Layers", "study": "Study", "environment": "Environment", "notes": "Notes",
}  # fmt: skip


def to_html(summary: Summary, results: StudyResults) -> str:
    """The verdicts, figures, tables, methods, layers, study and environment of a results folder."""
    made = figures(summary)
    drawn = [figure for figure in made if not figure.name.startswith("train_")]
    leading = leading_figures(summary, made)
    answer = headline(summary)
    verdicts = [v for v in (*verdict_sentences(summary), *speed_sentences(summary)) if v not in answer]
    of_inside = tables(summary, ["probes"])
    sheets = shown_sheets(summary, results)
    parts = {"samples": sheets, "verdicts": verdicts, "notes": summary.notes, "inside": summary.inside.asked}
    page: str = page_template("page.html").render(
        summary=summary,
        sections=[(name, title) for name, title in _SECTIONS.items() if parts.get(name, True)],
        description=results.study.get("description", ""),
        headline=answer,
        verdicts=verdicts,
        leading=[figure for name in leading for figure in drawn if figure.name == name],
        figures=[f for f in drawn if f.name not in leading and f.section == FIGURES],
        sheets=sheets,
        sheets_caption=sheets_caption(summary, sheets),
        inside_asked=summary.inside.asked,
        inside_sentences=inside_sentences(summary),
        inside_figures=[figure for figure in drawn if figure.section == INSIDE],
        inside_tables=of_inside,
        legend=_legend(summary),
        variants_in=_variants_in,
        most_names=_MOST_NAMES,
        settings=_settings(summary),
        log=any(figure.log for figure in drawn),
        least_width=_scrolled_width,
        cell_class=_cell_class,
        main_table=main_table(summary),
        short_table=_SHORT_TABLE,
        tables=[table for table in tables(summary) if table not in of_inside],
        methods=methods_paragraph(summary),
        citation=CITATION,
        layers=layer_lists(summary),
        study=_yaml(results.study),
        environment=_yaml(results.environment),
        data=_data(summary, drawn) if drawn else "",
        css=embedded("page.css"),
        javascript=embedded("page.js"),
        library=_library() if drawn else "",
    )
    return page


def page_template(name: str) -> Any:
    """A template of this folder, which escapes what is put into it."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_plain_text)
    return environment.from_string(page_file(name))


def _plain_text(value: Any) -> Any:
    """Text with its control characters written out: none reverses the page's text. The page adds its own markup."""
    return visible(value) if type(value) is str else value


#: Words of a cell that have a colour; see page.css.
_COLOURED = ("better", "worse", "not_finite", "crashed")


def _cell_class(side: str, text: str) -> Any:
    """The attribute of a cell whose text stands at the right, or has a colour; nothing for most cells."""
    import markupsafe

    classes = [*(["r"] if side == "r" else []), *([text] if text in _COLOURED else [])]
    return markupsafe.Markup(f' class="{" ".join(classes)}"') if classes else ""


def page_file(name: str) -> str:
    """A file of this folder."""
    return (resources.files("bnbench.reports") / "page" / name).read_text(encoding="utf-8")


def embedded(name: str) -> str:
    """A script or a style sheet without its indentation and its comments, which stand on lines of their own."""
    lines = map(str.strip, page_file(name).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


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
    patterns = [" ".join(map(str, dash)) for dash in dashes(names)]
    return list(zip(names, colours(names), patterns, strict=True))


def _variants_in(figure: Figure) -> set[str]:
    """Those that the figure draws: a further way of inference has no learning curve."""
    return {row["variant"] for rows in figure.data.values() for row in rows if "variant" in row}


def _settings(summary: Summary) -> list[str]:
    if not summary.best_settings:
        return []
    return list(dict.fromkeys(figure_data.setting_text(variant.setting) for variant in summary.variants))


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True) if values else "not known"


def _scrolled_width(figure: Figure) -> int:
    """Pixels of a figure that is wider than a phone; 0 of any other."""
    width = least_width(figure, PAGE_FONT_SIZE)
    return width if width > _PHONE_WIDTH else 0


def _data(summary: Summary, drawn: Sequence[Figure]) -> str:
    """The data of the page's script: charts and rows. "<" is escaped: no text can end the script."""
    names = figure_data.variant_names(summary)
    columns, legend_width = legend_columns(names, PAGE_FONT_SIZE, _SAVED_WIDTH)
    values = {
        "figures": {
            figure.name: {
                "title": title_lines(figure, _SAVED_WIDTH, PAGE_FONT_SIZE),
                "spec": specification(figure, zoom=True),
                "data": list(figure.data),
                "controls": figure.controls,
                "rows": figure.rows,
                "width": max(
                    _SAVED_WIDTH, least_width(figure, PAGE_FONT_SIZE), legend_width * figure.has_legend
                ),
                "columns": columns,
            }
            for figure in drawn
        },
        "data": {name: pack(rows) for figure in drawn for name, rows in figure.data.items()},
        "variants": names,
        "best": figure_data.best_settings(summary),
        "settings": _settings(summary),
        "paper": style(_SAVED_WIDTH, PAGE_FONT_SIZE).config,
    }
    return to_json(values, ascii=True, compact=True).replace("<", "\\u003c")


def pack(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as columns of five digits, each text once: a tenth of the size.

    texts: of a column of texts, the list that its numbers point into.
    """
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    texts: dict[str, list[str]] = {}
    for name, values in columns.items():
        if all(isinstance(value, str) for value in values):
            texts[name] = list(dict.fromkeys(values))
            places = {text: place for place, text in enumerate(texts[name])}
            columns[name] = [places[value] for value in values]
        else:
            columns[name] = [_short(value) for value in values]
    return {"columns": columns, "texts": texts}


def _short(value: Any) -> Any:
    """A float in five digits; a whole one without its point, as JavaScript knows no difference."""
    if not isinstance(value, float):
        return value
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() else short
