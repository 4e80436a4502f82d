"""The bodies of OpenAI's /v1/embeddings."""

from typing import Literal

from pydantic import Field

from nearfirst.contracts.base import Contract


class EmbeddingsRequest(Contract):
    """The body of POST /v1/embeddings. Lists of token numbers are not taken: their tokenizer isn't named."""

    input: str | list[str]
    """A text, or several."""
    model: str
    """Must be the served model's name."""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: the little-endian fp32 bytes of the vector."""
    dimensions: int | None = Field(default=None, ge=1)
    """May only be the model's own number: vectors are not shortened."""
    user: str | None = None
    """Taken for compatibility; not used."""

    @property
    def texts(self) -> list[str]:
        """The input as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


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
