"""Counting the tokens of examples with the tokenizer of the model's folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.estimates import TokenEstimate
from nearfirst.contracts.training import TemplateName, TrainSettings
from nearfirst.data.example import Example
from nearfirst.data.template import tokenize_example
from nearfirst.estimates.tokenizer_files import read_tokenizer
from nearfirst.estimates.tokens import count_tokens


def count_tokens_of(
    rows: Sequence[Example], index: npt.NDArray[np.int64], num_rows: int, settings: TrainSettings, remarks: list[str]
) -> TokenEstimate | None:
    """Tokens of all steps over these rows.

    Args:
        rows: of the training dataset, by index.
        index: (R,) row at each position of the order.
        num_rows: rows consumed over all epochs.
        settings: model, template, length, steps.
        remarks: is told why nothing was counted, or what the count isn't.

    Returns:
        None when the model's folder has no tokenizer that can be read here.

    Raises:
        InvalidModel: the tokenizer has no eos token.
    """
    folder = Path(settings.model.name_or_path)
    tokenizer = read_tokenizer(folder) if folder.is_absolute() else None
    if tokenizer is None:
        remarks.append(
            f"tokens aren't known: model {settings.model.name_or_path!r} has no tokenizer.json that can be read here "
            "(a folder with one, and the Python library `tokenizers`, are needed)"
        )
        return None
    template: TemplateName = settings.template
    if template == "chat":
        template = "paper"
        remarks.append("tokens are counted under template paper: the chat template is rendered by training only")

    def measure_row(row: int) -> int:
        return len(tokenize_example(rows[row], tokenizer, settings.max_length, template).input_ids)

    counted = count_tokens(index, num_rows, settings, measure_row)
    return counted if template == settings.template else counted.model_copy(update={"is_exact": False})
