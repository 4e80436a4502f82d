"""Building blocks of what notebooks and consoles show. HTML is escaped, and refers to nothing outside itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from nearfirst.contracts.runs import Progress

_MAX_CELL = 80
"""Characters of a table's cell."""
_QUIET = 'style="opacity:.7"'


@dataclass(frozen=True)
class Card:
    """What there is to say of one object."""

    title: str
    state: str = ""
    progress: Progress | None = None
    facts: list[tuple[str, str]] = field(default_factory=list)
    """Names and values; those without a value are left out."""

    def known_facts(self) -> list[tuple[str, str]]:
        """Facts that have a value."""
        return [(name, value) for name, value in self.facts if value]


def text_card(card: Card) -> str:
    """On one line: `<job_1 running, 30/80 steps; model: ...>`."""
    head = ", ".join(part for part in (f"{card.title} {card.state}".strip(), _done(card.progress)) if part)
    facts = "; ".join(f"{name}: {value}" for name, value in card.known_facts())
    return f"<{head}; {facts}>" if facts else f"<{head}>"


def html_card(card: Card) -> str:
    """A heading with the state, a bar of the progress, and a table of the facts."""
    parts = [f"<div><strong>{escape(card.title)}</strong> {escape(card.state)}"]
    if card.progress is not None and card.progress.total:
        value = f'value="{card.progress.done}" max="{card.progress.total}"'
        parts.append(f" <progress {value}></progress> <span {_QUIET}>{escape(_done(card.progress))}</span>")
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}'
        "</td></tr>"
        for name, value in card.known_facts()
    )
    parts.append(f"<table>{rows}</table></div>" if rows else "</div>")
    return "".join(parts)


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """A table with a heading for each column; cells are shortened."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell(value))}</td>' for value in row)}</tr>" for row in rows)
    below = f"<div {_QUIET}>{escape(note)}</div>" if note else ""
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def cell(value: Any) -> str:
    """A value as tables show it; nothing for None.

    >>> cell(0.123456)
    '0.1235'
    """
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _MAX_CELL else f"{text[: _MAX_CELL - 1]}…"


def _done(progress: Progress | None) -> str:
    if progress is None:
        return ""
    total = "" if progress.total is None else f"/{progress.total:,}"
    return f"{progress.done:,}{total} {progress.unit}"
