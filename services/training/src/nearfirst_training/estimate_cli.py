"""`nearfirst estimate`: what a training job would take, before it runs."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console

from nearfirst.client.api import Client
from nearfirst.client.estimate_table import estimate_table
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.estimates import Available, TrainEstimate
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.contracts.training import TrainSettings, TrainSpec
from nearfirst.estimates.estimate import estimate_training, refuse_what_does_not_fit
from nearfirst.estimates.model_files import read_model_folder
from nearfirst.estimates.rows import count_tokens_of
from nearfirst_training.cli import job_of_spec
from nearfirst_training.prepare import load_data

_NAMES_IDS = ("arrangement", "dataset")


def estimate(
    spec: Annotated[
        Path,
        typer.Argument(help="SPEC.yaml of `nearfirst train`, or of POST /train-jobs (`arrangement` or `dataset`)."),
    ],
    out: Annotated[Path, typer.Option(help="Where checkpoints would go: its disk must have room.")] = Path(),
    url: Annotated[
        str | None, typer.Option(help="Server that knows the ids of the spec; default: NEARFIRST_URL.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a training job would take: steps, tokens, checkpoints, memory. Nothing is trained or submitted.

    Exits with an error when the checkpoints are more than the disk has free, or the server says that it can't fit.
    """
    remote = _remote_spec(spec)
    if remote is None:
        settings, found = _estimate_here(spec, out)
    else:
        with Client.from_settings(url) as client:
            found = client.estimate(remote)
    if as_json:
        print_json(found)
    else:
        Console().print(estimate_table(found, str(spec)))
    if remote is None:  # a server has refused by itself
        refuse_what_does_not_fit(settings, found.estimates)


def _remote_spec(path: Path) -> TrainSpec | None:
    """A spec that names ids of a server; None for one that names files, or that only reading it as such explains."""
    try:
        fields: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = json.dumps(fields)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(fields, dict) or not any(name in fields for name in _NAMES_IDS):
        return None
    try:
        return TrainSpec.model_validate_json(text)
    except ValidationError as error:
        raise invalid_input_from_validation(error, f"spec {path}") from error


def _estimate_here(spec: Path, out: Path) -> tuple[TrainSettings, TrainEstimate]:
    """Of files on this machine. What GPUs it has isn't asked.

    Raises:
        InvalidInput: the spec or its data can't be used.
    """
    job = job_of_spec(spec, out, resume=False)
    settings = job.settings
    with progress_bar("reading") as progress:
        data = load_data(job, progress)
    remarks: list[str] = []
    model = settings.model.model_copy(update={"name_or_path": _absolute(settings.model.name_or_path)})
    settings = settings.model_copy(update={"model": model})
    tokens = count_tokens_of(data.train.examples, data.plan.index, data.plan.num_rows, settings, remarks)
    found = estimate_training(
        settings,
        len(data.plan.ids),
        read_model_folder(model),
        tokens=tokens,
        rate=None,
        available=Available(disk_bytes=_free_bytes(out)),
        remarks=remarks,
    )
    return settings, found


def _absolute(name: str) -> str:
    """A folder's absolute path; a hub id as it is."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _free_bytes(out: Path) -> int:
    out = out.resolve()
    try:
        existing = next(each for each in (out, *out.parents) if each.is_dir())
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise InvalidInput(f"out: {out} can't be looked at: {error.strerror}") from error
