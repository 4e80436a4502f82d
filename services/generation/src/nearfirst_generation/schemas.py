"""What is said over HTTP beside the contracts: headers, and bodies that are OpenAI's rather than ours."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from nearfirst.contracts.base import Contract
from nearfirst.web.problems import PROBLEM_ANSWER

VERSION_HEADER = "Nearfirst-Weight-Version"
"""Of an answer: which weights wrote it."""
DIGEST_HEADER = "Nearfirst-Weight-Digest"
"""Of an answer: which weights wrote it; of a request: which ones it wants."""
ANY_MODEL = "nearfirst"
"""What a request may call the loaded weights, besides their version."""


class ServedModel(Contract):
    """An entry of GET /v1/models."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str = "nearfirst"
    max_model_len: int
    """Tokens of prompt and answer together; vLLM's own addition to OpenAI's fields."""


class ServedModels(Contract):
    """GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ServedModel]


class SamplingFields(Contract):
    """Fields of both of OpenAI's bodies that every engine knows."""

    model_config = ConfigDict(strict=True)

    model: str | None = None
    max_tokens: int = Field(default=16, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stream: Literal[False] = False
    n: Literal[1] = 1


Tokens = Annotated[list[int], Field(min_length=1)]


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions, as the transformers engine takes it; one that it doesn't know is refused, since
    ignoring it would answer something else."""

    prompt: str | list[str] | Tokens | list[Tokens]
    return_token_ids: bool = False


class ChatMessage(Contract):
    """What somebody said."""

    role: str
    content: str


class ChatRequest(SamplingFields):
    """The body of POST /v1/chat/completions, likewise."""

    messages: list[ChatMessage] = Field(min_length=1)


def described_body(body: type[SamplingFields]) -> dict[str, Any]:
    """What an operation says of its body besides that it is an object: vLLM takes all fields of its own as well."""
    schema = body.model_json_schema()
    definitions = schema.pop("$defs", {})
    described = {"properties": _resolved(schema["properties"], definitions), "required": schema["required"]}
    return {"requestBody": {"content": {"application/json": {"schema": described}}}}


def _resolved(part: Any, definitions: dict[str, Any]) -> Any:
    """A part of a schema with what it refers to in place: the document has these definitions nowhere else."""
    if isinstance(part, list):
        return [_resolved(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _resolved(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {name: _resolved(each, definitions) for name, each in part.items()}


OPENAI_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer; server-sent events with `stream`", "content": {"text/event-stream": {}}},
    "4XX": {**PROBLEM_ANSWER, "content": {**PROBLEM_ANSWER["content"], "application/json": {}}},
}
"""What an operation says of its answers: those of vLLM pass as they come, its errors (`application/json`) too."""
