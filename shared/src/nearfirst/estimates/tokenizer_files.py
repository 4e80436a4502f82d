"""A model folder's tokenizer, read by the `tokenizers` library: neither torch nor transformers is needed."""

import json
from pathlib import Path
from typing import Any

from nearfirst.data.template import Tokenizer

_TOKENIZER = "tokenizer.json"
_NAMES = ("special_tokens_map.json", "tokenizer_config.json")


class FileTokenizer:
    """What the templates paper and alpaca need of a tokenizer, from its files."""

    def __init__(self, tokenizer: Any, special: dict[str, Any]) -> None:
        """`tokenizer` is of the `tokenizers` library; `special` names its bos and eos."""
        self._tokenizer = tokenizer
        self._special = special

    @property
    def bos_token_id(self) -> int | None:
        """Opens an example."""
        return self._id("bos_token")

    @property
    def eos_token_id(self) -> int | None:
        """Ends an answer."""
        return self._id("eos_token")

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def _id(self, name: str) -> int | None:
        token = self._special.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if not isinstance(content, str):
            return None
        found: int | None = self._tokenizer.token_to_id(content)
        return found


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in a folder; None without a tokenizer.json that can be read, or without the library."""
    try:
        from tokenizers import Tokenizer as Tokenizers
    except ImportError:
        return None
    special: dict[str, Any] = {}
    try:
        for name in _NAMES:
            if (folder / name).is_file():
                special |= json.loads((folder / name).read_bytes())
        tokenizer = Tokenizers.from_file(str(folder / _TOKENIZER))
    except Exception:  # noqa: BLE001  (the library raises plain Exception for a file that it can't read)
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return FileTokenizer(tokenizer, special)
