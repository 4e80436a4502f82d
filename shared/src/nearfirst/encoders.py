"""Kinds of representations: each is an entry point of the group `nearfirst.encoders` of some installed distribution."""

from importlib.metadata import EntryPoint, entry_points

from nearfirst.contracts.arrangements import RepresentationKind
from nearfirst.contracts.problems import InvalidInput

ENCODER_GROUP = "nearfirst.encoders"
"""Entry points: kind of a Representation -> load(representation) -> TextEncoder."""


def find_encoder(kind: str) -> EntryPoint:
    """The installed plug-in of a kind.

    Raises:
        InvalidInput: none has it; the detail names those that are there.
    """
    found = list(entry_points(group=ENCODER_GROUP, name=kind))
    if not found:
        known = sorted({plug_in.name for plug_in in entry_points(group=ENCODER_GROUP)})
        raise InvalidInput(
            f"representation.kind: no encoder of kind {kind!r} is installed; wanted one of: {', '.join(known)}"
        )
    return found[0]


def refuse_unknown_kind(kind: str) -> None:
    """Refuse what no worker will find, as far as this process can tell.

    Kinds that come with Nearfirst are always taken. Of others a process that has no encoder at all knows nothing: the
    API may be installed without the embedding service. One that has encoders is taken to have the workers' plug-ins.

    Raises:
        InvalidInput: as `find_encoder`.
    """
    if kind not in set(RepresentationKind) and entry_points(group=ENCODER_GROUP):
        find_encoder(kind)
