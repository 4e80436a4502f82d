"""A report as Markdown."""

from collections.abc import Sequence

from nearfirst.contracts.study_reports import StudyReport
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

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})


def to_markdown(report: StudyReport, figures: Sequence[str] = ()) -> str:
    """The report as Markdown (GitHub's tables).

    Args:
        report: what is said.
        figures: names of figures whose NAME.svg lies beside it.
    """
    parts = [f"# {_escaped(report.name)}", *(_block(block) for block in compose(report, figures))]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_escaped(text)}"
        case Paragraph(text):
            return _escaped(text)
        case Warnings(texts):
            return "\n".join(f"> **Warning:** {_escaped(text)}  " for text in texts)
        case Picture(name, description):
            return f"![{_escaped(description)}]({name}.svg)"
        case Code(summary, text):
            fence = "`" * max(3, _longest_run(text) + 1)
            return f"{_escaped(summary)}:\n\n{fence}json\n{text}\n{fence}"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    rules = ["---:" if number >= table.first_number else "---" for number in range(len(table.columns))]
    rows = [table.columns, *table.rows]
    lines = [_row([_escaped(cell) for cell in row]) for row in rows]
    return "\n".join([f"**{_escaped(table.caption)}**", "", lines[0], _row(rules), *lines[1:]])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """On one line, nothing in it read as Markdown or HTML."""
    return " ".join(text.split()).translate(_SPECIAL).replace("&", "&amp;")


def _longest_run(text: str) -> int:
    """Of backticks."""
    longest = 0
    while "`" * (longest + 1) in text:
        longest += 1
    return longest
