"""The base of every model that crosses a boundary."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A model that refuses unknown fields and non-finite numbers, and can't be changed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
