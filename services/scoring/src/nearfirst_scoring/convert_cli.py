"""`nearfirst convert-reward-model`: the hub's files to safetensors, once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar

_GIB = 2**30


class LayoutOption(StrEnum):
    """How the head is called."""

    ULTRARM = "ultrarm"
    SEQUENCE_CLASSIFICATION = "sequence-classification"


def convert_reward_model(
    source: Annotated[Path, typer.Argument(help="Folder of a reward model, as the hub has it or converted before.")],
    out: Annotated[Path, typer.Argument(help="The new folder; must not exist.")],
    layout: Annotated[
        LayoutOption, typer.Option(help="ultrarm: UltraRM's own names; sequence-classification: what vLLM reads.")
    ] = LayoutOption.ULTRARM,
    as_json: AsJson = False,
) -> None:
    """Write a reward model as safetensors, without running any code that its pickles may hold."""
    from nearfirst_scoring.convert import convert_reward_model as convert

    with progress_bar("converting") as progress:
        converted = convert(source, out, layout=layout.value, progress=progress)
    typer.echo(
        f"{converted.num_tensors} tensors, {converted.size_bytes / _GIB:.2f} GiB, in {converted.folder}; "
        f"{converted.digest}",
        err=True,
    )
    if as_json:
        print_json(
            {
                "folder": str(converted.folder),
                "num_tensors": converted.num_tensors,
                "size_bytes": converted.size_bytes,
                "digest": converted.digest,
            }
        )
