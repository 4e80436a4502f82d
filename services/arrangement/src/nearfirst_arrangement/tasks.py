"""The arrangement worker's task: datasets and their embeddings to an order."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy import select

from nearfirst.contracts.arrangements import ArrangementRules, ArrangementSpec, Selection
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.runs import RunKind, RunState
from nearfirst.data.dataset import read_canonical
from nearfirst.data.example import Example
from nearfirst.queue.execution import RunContext, RunResult
from nearfirst.registry import records, runs
from nearfirst.registry.models import RunRow
from nearfirst_arrangement.arrangements.service import NEEDS_EMBEDDINGS, embedding_spec
