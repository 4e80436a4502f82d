"""A report as one HTML file: no script, nothing from another host, light and dark, and fit for print."""

import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files

from nearfirst.contracts.study_reports import StudyReport
from nearfirst_arrangement.measures import figure_style as style
from nearfirst_arrangement.studies.report.document import (
    Block,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    Warnings,
    compose,
)

DARK_COLOURS = {
    **dict(
        zip(
            style.LINE_COLOURS,
            ("#3f9ce0", "#f07b2e", "#1fbf8f", "#8b949e", "#f2a7d3", "#f2c14e", "#a6dcff", "#8f7bf7"),
            strict=True,
        )
    ),
    style.INK: "#e6edf3",
    style.QUIET: "#9aa4ae",
    style.GRID: "#30363d",
    style.EMPTY: "#161b22",
}
"""What the colours of figures become on a dark page; the lines' stay apart for colour-blind readers there as well."""

_WIDE = 40
"""Characters from which a cell may break into lines."""


def to_html(report: StudyReport, figures: Mapping[str, bytes]) -> str:
    """The report as a page.

    Args:
        report: what is said.
        figures: SVG of each figure by its name, the most important first.
    """
    pictures = {name: inline_svg(svg, name) for name, svg in figures.items()}
    blocks = compose(report, list(figures))
    body = "\n".join(_block(block, pictures, is_lead=number == 0) for number, block in enumerate(blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.name)}</title>\n"
        f"<style>{_style()}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(report.name)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def inline_svg(svg: bytes, name: str) -> str:
    """A drawing of matplotlib as part of a page: ids of its own, no metadata, colours that follow the page's theme."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    width = float(text.split('viewBox="', 1)[1].split('"', 1)[0].split()[2])
    # A third larger than on paper, where it is read from nearer.
    text = text.replace("<svg", f'<svg style="max-width: {width * 1.33 * 1.33:.0f}px"', 1)
    for light in DARK_COLOURS:
        text = re.sub(light, f"var({_variable(light)}, {light})", text, flags=re.IGNORECASE)
    return re.sub(r"fill: #ffffff", "fill: none", text)


def _style() -> str:
    dark = " ".join(f"{_variable(light)}: {dark};" for light, dark in DARK_COLOURS.items())
    light = " ".join(f"{_variable(light)}: {light};" for light in DARK_COLOURS)
    text = files(__package__).joinpath("page.css").read_text()
    return text.replace("--figures: dark;", dark).replace("--figures: light;", light)


def _variable(colour: str) -> str:
    return f"--c{colour.removeprefix('#').lower()}"


def _block(block: Block, pictures: Mapping[str, str], *, is_lead: bool) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text, is_quiet):
            kind = "lead" if is_lead else "quiet" if is_quiet else ""
            return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"
        case Warnings(texts):
            items = "".join(f"<li>{escape(text)}</li>" for text in texts)
            return f'<section class="warnings" aria-label="Warnings"><h2>Warnings</h2><ul>{items}</ul></section>'
        case Picture(name, description):
            drawing = pictures[name].replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
            return f'<figure class="scroll" tabindex="0" aria-label="{escape(name)}">{drawing}</figure>'
        case Code(summary, text):
            return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_kind(number >= table.first_number, "")}>{escape(name)}</th>'
        for number, name in enumerate(table.columns)
    )
    rows = "".join(f"<tr>{_cells(table, row)}</tr>" for row in table.rows)
    # A region that scrolls must be reachable by keyboard, and named.
    return (
        f'<div class="scroll" role="region" aria-label="{escape(table.caption)}" tabindex="0"><table>'
        f"<caption>{escape(table.caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(table: Table, row: tuple[str, ...]) -> str:
    first, *others = row
    cells = [f'<th scope="row">{escape(first)}</th>']
    for number, cell in enumerate(others, start=1):
        cells.append(f"<td{_kind(number >= table.first_number, cell)}>{escape(cell)}</td>")
    return "".join(cells)


def _kind(is_number: bool, cell: str) -> str:
    kinds = [name for name, holds in (("number", is_number), ("wide", len(cell) > _WIDE)) if holds]
    return f' class="{" ".join(kinds)}"' if kinds else ""
