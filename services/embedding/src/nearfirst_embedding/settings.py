"""Settings of the embedding service, from `NEARFIRST_EMBEDDING_*` variables."""

from functools import lru_cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from nearfirst.contracts.arrangements import DEFAULT_ENCODER, Representation


class EmbeddingSettings(BaseSettings):
    """Which encoder /v1/embeddings serves, and how much it takes at once."""

    model_config = SettingsConfigDict(env_prefix="NEARFIRST_EMBEDDING_", extra="ignore")

    model: str = DEFAULT_ENCODER
    """Hub id, `package:NAME`, or a folder; also the name that requests ask for."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    max_length: int | None = Field(default=None, ge=1)
    """Tokens after which a text is cut; None: the model's own limit."""
    max_inputs: int = Field(default=2048, ge=1)
    """Texts in one request."""
    max_requests: int = Field(default=64, ge=1)
    """Requests that are computed or wait for it; further ones are answered 429."""

    @property
    def representation(self) -> Representation:
        """The encoder. Texts come ready-made over HTTP, so the text rule plays no part."""
        return Representation(model=self.model, revision=self.revision, max_length=self.max_length)


@lru_cache
def get_embedding_settings() -> EmbeddingSettings:
    """This process's settings, read once."""
    return EmbeddingSettings()
