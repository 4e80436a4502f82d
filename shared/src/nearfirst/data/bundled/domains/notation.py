"""Notation: tasks unrelated to every test task, on symbols of sciences and trades."""

from nearfirst.data.bundled.task import Draw, Row, Task

_ELEMENTS = {"C": "carbon", "H": "hydrogen", "N": "nitrogen", "O": "oxygen", "S": "sulfur", "P": "phosphorus"}
_PIECES = {"N": "knight", "B": "bishop", "R": "rook", "Q": "queen", "K": "king"}
_ROMAN = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
_CLAUSES = (
    ("Confidentiality", "shall not disclose the proprietary information to third parties"),
    ("Indemnification", "shall hold the licensor harmless against all claims and liabilities"),
    ("Termination", "may terminate this agreement upon written notice of default"),
    ("Governing Law", "submits to the jurisdiction of the competent courts"),
    ("Assignment", "shall not assign or transfer its rights hereunder without consent"),
    ("Force Majeure", "is excused from performance during events beyond its control"),
)
_PARTIES = ("Licensee", "Lessee", "Contractor", "Borrower", "Distributor", "Franchisee")
_TICKERS = ("ACMX", "BRVO", "CLDR", "DYNA", "ELMT", "FRSX", "GLOB", "HYPR")


def _roman_numeral(draw: Draw) -> Row:
    value = rest = draw.number(11, 199)
    numeral = ""
    for worth, symbol in _ROMAN:
        numeral += symbol * (rest // worth)
        rest %= worth
    return Row(
        f"Epigraphy exercise: transcribe the Arabic numeral {value} into a Roman numeral.",
        (f"The numeral is written {numeral}.",),
    )


def _chess_move(draw: Draw) -> Row:
    letter, square = draw.one(list(_PIECES)), f"{draw.one('abcdefgh')}{draw.number(1, 8)}"
    takes, check = draw.one(("", "x")), draw.one(("", "+"))
    verb = "captures on" if takes else "moves to"
    return Row(
        f"Chess notation, move {draw.number(5, 60)}: {letter}{takes}{square}{check}. Spell it out.",
        (f"The {_PIECES[letter]} {verb} {square}{' and gives check' if check else ''}.",),
    )


def _atom_count(draw: Draw) -> Row:
    elements = draw.some(list(_ELEMENTS), 3)
    counts = [draw.number(2, 12) for _ in elements]
    formula = "".join(f"{element}{count}" for element, count in zip(elements, counts, strict=True))
    first, second, third = (f"{count} {_ELEMENTS[e]}" for e, count in zip(elements, counts, strict=True))
    return Row(
        f"Stoichiometry: list the atoms of each chemical element in a molecule with the formula {formula}.",
        (f"The molecule has {first}, {second} and {third} atoms.",),
    )


def _clause_title(draw: Draw) -> Row:
    (title, duty), party = draw.one(_CLAUSES), draw.one(_PARTIES)
    section = f"{draw.number(1, 24)}.{draw.number(1, 9)}"
    return Row(
        f"Contract drafting. Section {section} reads: The {party} {duty}, notwithstanding any provision herein to the "
        "contrary. Which heading applies to the clause, and whom does it bind?",
        (f"The heading is {title}, and the clause binds the {party}.",),
    )


def _share_price(draw: Draw) -> Row:
    ticker, cents, change = draw.one(_TICKERS), draw.number(1000, 9000), draw.one((-1, 1)) * draw.number(5, 250)
    return Row(
        f"Stock exchange ticker {ticker}: opening quote {cents / 100:.2f} USD, closing quote "
        f"{(cents + change) / 100:.2f} USD. Report the change.",
        (f"The share of {ticker} {'rose' if change > 0 else 'fell'} by {abs(change) / 100:.2f} USD.",),
    )


TASKS = (
    Task("notation_roman_numeral", "roman numerals", "train", _roman_numeral),
    Task("notation_chess_move", "chess", "train", _chess_move),
    Task("notation_atom_count", "chemistry", "train", _atom_count),
    Task("notation_clause_title", "contracts", "train", _clause_title),
    Task("notation_share_price", "stock exchange", "train", _share_price),
)
