"""Where the server is: the only place of the client that reads the environment."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """Read from NEARFIRST_URL and NEARFIRST_API_KEY when it is made."""

    model_config = SettingsConfigDict(env_prefix="NEARFIRST_", frozen=True)

    url: str = "http://127.0.0.1:8000"
    """Base URL of the API, without a trailing path."""
    api_key: SecretStr | None = None
    """Sent as `Authorization: Bearer KEY`; None for a server that asks for none."""
