"""The bodies of OpenAI's /v1/embeddings."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt, StrictStr

from nearfirst.contracts.base import Contract

TokenIds = Annotated[list[StrictInt], Field(min_length=1)]


class EmbeddingsRequest(Contract):
    """The body of POST /v1/embeddings."""

    input: StrictStr | list[StrictStr] | TokenIds | list[TokenIds]
    """A text or several; or the served model's own token ids, of one text or several, taken as they come: no prompt and
    no special token is added."""
    model: str
    """Must be the served model's name."""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: the little-endian fp32 bytes of the vector."""
    dimensions: int | None = Field(default=None, ge=1)
    """May only be the model's own number: vectors are not shortened."""
    truncate: bool = True
    """Whether texts over the model's limit are cut, as sentence-transformers does; false: they are refused with 413."""
    user: str | None = None
    """Taken for compatibility; not used."""

    @property
    def num_inputs(self) -> int:
        """Texts, or token sequences."""
        is_one_sequence = isinstance(self.input, list) and bool(self.input) and isinstance(self.input[0], int)
        return 1 if isinstance(self.input, str) or is_one_sequence else len(self.input)

    @property
    def texts(self) -> list[str] | None:
        """The input as a list of texts; None when it is tokens."""
        if isinstance(self.input, str):
            return [self.input]
        texts = [part for part in self.input if isinstance(part, str)]
        return texts if len(texts) == len(self.input) else None

    @property
    def sequences(self) -> list[list[int]]:
        """The input as a list of token sequences; empty when it is texts."""
        if isinstance(self.input, str):
            return []
        single = [part for part in self.input if isinstance(part, int)]
        return [single] if single else [part for part in self.input if isinstance(part, list)]


class EmbeddingItem(Contract):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    """The text's place in the request."""
    embedding: list[float] | str


class Usage(Contract):
    """Tokens that the model saw, its special tokens and no padding; texts are counted after truncation."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Contract):
    """The answer, in the order of the input."""

    object: Literal["list"] = "list"
    data: list[EmbeddingItem]
    model: str
    usage: Usage
