"""Notation: tasks unrelated to every test task, on symbols of sciences and trades."""

from nearfirst.data.bundled.task import Draw, Row, Task

_ELEMENTS = ("C", "H", "N", "O", "S", "P", "Cl", "Na", "K", "Fe")
_PIECES = {"N": "knight", "B": "bishop", "R": "rook", "Q": "queen", "K": "king"}
_PAIRS = {"A": "T", "T": "A", "C": "G", "G": "C"}
_MORSE = {
    **{
        "A": ".-",
        "D": "-..",
        "E": ".",
        "G": "--.",
        "I": "..",
        "K": "-.-",
        "M": "--",
        "N": "-.",
        "O": "---",
        "R": ".-.",
    },
    **{"S": "...", "T": "-", "U": "..-", "W": ".--"},
}
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
_SURNAMES = ("Alvarez", "Becker", "Chandra", "Dimitrov", "Eriksen", "Fontaine", "Gupta", "Haddad")
_TOPICS = (
    "Spectral Graphs",
    "Enzyme Kinetics",
    "Late Antiquity",
    "Fiscal Multipliers",
    "Plate Tectonics",
    "Speech Acts",
)


def _roman_numeral(draw: Draw) -> Row:
    value = rest = draw.number(11, 199)
    numeral = ""
    for worth, symbol in _ROMAN:
        numeral += symbol * (rest // worth)
        rest %= worth
    return Row(f"Epigraphy exercise: transcribe the Arabic numeral {value} into a Roman numeral.", (numeral,))


def _chess_move(draw: Draw) -> Row:
    letter, square = draw.one(list(_PIECES)), f"{draw.one('abcdefgh')}{draw.number(1, 8)}"
    takes, check = draw.one(("", "x")), draw.one(("", "+"))
    verb = "captures on" if takes else "moves to"
    return Row(
        f"Chess notation, move {draw.number(5, 60)}: {letter}{takes}{square}{check}. Spell it out.",
        (f"{_PIECES[letter]} {verb} {square}{', check' if check else ''}",),
    )


def _dna_complement(draw: Draw) -> Row:
    strand = "".join(draw.one("ACGT") for _ in range(10))
    complement = "".join(_PAIRS[base] for base in strand)
    return Row(f"Genomics: for the DNA strand 5'-{strand}-3' report the complementary bases, 3' to 5'.", (complement,))


def _atom_count(draw: Draw) -> Row:
    counts = [(element, draw.number(2, 12)) for element in draw.some(_ELEMENTS, 3)]
    formula = "".join(f"{element}{count}" for element, count in counts)
    return Row(
        f"Stoichiometry: list the atom count of each element in the molecular formula {formula}.",
        ("; ".join(f"{element}:{count}" for element, count in counts),),
    )


def _morse_code(draw: Draw) -> Row:
    letters = draw.some(list(_MORSE), 4)
    code = " ".join(_MORSE[letter] for letter in letters)
    return Row(
        f"A radio operator keyed the Morse signal {code} over shortwave. Decode the callsign.", ("".join(letters),)
    )


def _clause_title(draw: Draw) -> Row:
    (title, duty), party = draw.one(_CLAUSES), draw.one(_PARTIES)
    section = f"{draw.number(1, 24)}.{draw.number(1, 9)}"
    return Row(
        f"Contract drafting. Section {section} reads: The {party} {duty}, notwithstanding any provision herein to the "
        "contrary. Which heading applies to the clause?",
        (f"§ {section} {title} ({party})",),
    )


def _share_price(draw: Draw) -> Row:
    ticker, cents, change = draw.one(_TICKERS), draw.number(1000, 9000), draw.number(-250, 250)
    return Row(
        f"Stock exchange ticker {ticker}: opening quote {cents / 100:.2f} USD, closing quote "
        f"{(cents + change) / 100:.2f} USD. Report the ticker with its signed change.",
        (f"{ticker} {change / 100:+.2f} USD",),
    )


def _citation(draw: Draw) -> Row:
    surname, topic = draw.one(_SURNAMES), draw.one(_TOPICS)
    year, initial, volume = draw.number(1961, 2019), draw.one("ABCDEFGH"), draw.number(2, 88)
    return Row(
        f"Bibliography: author {initial}. {surname}; article title {topic}; journal volume {volume}; publication year "
        f"{year}. Format the APA reference.",
        (f"{surname}, {initial}. ({year}). {topic}, {volume}.",),
    )


TASKS = (
    Task("notation_roman_numeral", "roman numerals", "train", _roman_numeral),
    Task("notation_chess_move", "chess", "train", _chess_move),
    Task("notation_dna_complement", "genetics", "train", _dna_complement),
    Task("notation_atom_count", "chemistry", "train", _atom_count),
    Task("notation_morse_code", "morse code", "train", _morse_code),
    Task("notation_clause_title", "contracts", "train", _clause_title),
    Task("notation_share_price", "stock exchange", "train", _share_price),
    Task("notation_citation", "citations", "train", _citation),
)
