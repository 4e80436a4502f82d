"""What torchrun tells a rank."""

from pydantic import Field
from pydantic_settings import BaseSettings


class RankSettings(BaseSettings):
    """Of a process that torchrun has started."""

    rank: int = Field(validation_alias="RANK", ge=0)
    """Among all ranks of the job, on all machines."""
