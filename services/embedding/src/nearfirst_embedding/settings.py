"""Settings of the embedding service, from `NEARFIRST_EMBEDDING_*` variables."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nearfirst.contracts.arrangements import DEFAULT_ENCODER, Precision, Representation
from nearfirst.settings import get_settings


class EmbeddingSettings(BaseSettings):
    """Which encoder /v1/embeddings serves, how much it takes at once, and where vectors are kept."""

    model_config = SettingsConfigDict(env_prefix="NEARFIRST_EMBEDDING_", extra="ignore")

    model: str = DEFAULT_ENCODER
    """Hub id, `package:NAME`, or a folder; also the name that requests ask for."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens after which a text is cut; None: the model's own limit."""
    precision: Precision = Precision.EXACT
    """Of the served encoder: exact (fp32) or fast (bf16)."""
    max_inputs: int = Field(default=2048, ge=1)
    """Texts in one request."""
    max_batch_tokens: int = Field(default=131_072, ge=1)
    """Tokens in one request, counted after truncation."""
    max_requests: int = Field(default=64, ge=1)
    """Requests that are computed or wait for it; further ones are answered 429."""
    max_hits: int = Field(default=100_000, ge=1)
    """Rows in the answer to one search."""
    max_open_indexes: int = Field(default=8, ge=1)
    """Indexes that stay memory-mapped between searches."""
    retry_after_s: int = Field(default=1, ge=1)
    """What an answer 429 tells the client to wait."""
    cache: bool = True
    """Whether workers and command lines keep vectors of texts between runs."""
    cache_dir: Path | None = None
    """Folder of that cache; None: `cache/embeddings` in the suite's home."""

    @property
    def representation(self) -> Representation:
        """The encoder. Texts come ready-made over HTTP, so the text rule plays no part."""
        return Representation(
            model=self.model, revision=self.revision, max_length=self.max_length, precision=self.precision
        )

    @property
    def cache_folder(self) -> Path | None:
        """Where vectors are kept; None: nowhere."""
        if not self.cache:
            return None
        return self.cache_dir or get_settings().home / "cache" / "embeddings"


@lru_cache
def get_embedding_settings() -> EmbeddingSettings:
    """This process's settings, read once."""
    return EmbeddingSettings()
