"""Presets of studies as the API offers them: GET /studies/presets and POST /studies/specs."""

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from nearfirst.contracts.base import Contract
from nearfirst.contracts.evaluations import MetricName

MAX_TEXT_LENGTH = 65_536

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PresetDataset(Contract):
    """A dataset that a preset names."""

    name: str
    """In the preset: `train`."""
    source: str
    """`bundled`: it comes with Nearfirst. Otherwise a file that the server lacks: a registered dataset is to take its
    place."""
    is_bundled: bool


class PresetScale(Contract):
    """What a preset asks for at one scale."""

    name: str | None
    """None: it has one scale only, without a name."""
    datasets: list[PresetDataset]
    model: str | None
    """None: a small one with random weights, made from the training texts."""
    arrangements: list[str]
    """Their labels."""
    seeds: list[int]
    num_runs: int
    """Train jobs."""
    max_steps: int | None
    """Of each; None: an epoch."""
    gpus: int
    """Of each; 0: the CPU."""
    metrics: list[MetricName]


class StudyPreset(Contract):
    """A study that comes with Nearfirst."""

    name: str
    question: str
    scales: list[PresetScale]
    """The first is the one to begin with."""


class PresetList(Contract):
    """GET /studies/presets."""

    items: list[StudyPreset]


class SpecRequest(Contract):
    """The body of POST /studies/specs: a preset that comes with Nearfirst, or the text of one's own."""

    preset: Name | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_LENGTH)] | None = None
    """YAML or JSON: the body of POST /studies, or a preset file."""
    scale: Name | None = None
    """None: its first."""
    datasets: dict[Name, Name] = Field(default_factory=dict, max_length=100)
    """Ids of registered datasets by the preset's names for them: they take the place of its own."""

    @model_validator(mode="after")
    def _one_source(self) -> "SpecRequest":
        if (self.preset is None) == (self.text is None):
            raise ValueError("give preset or text, and not both")
        return self
