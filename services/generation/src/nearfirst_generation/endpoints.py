"""/weights and OpenAI's routes."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Request, Response

from nearfirst.contracts.generation import AdapterInfo, AdapterLoad, WeightInfo, WeightSwapRequest, WeightSwapResult
from nearfirst_generation.schemas import (
    DIGEST_HEADER,
    OPENAI_ANSWERS,
    ChatRequest,
    CompletionRequest,
    ServedModels,
    described_body,
)
from nearfirst_generation.service import GenerationService

WEIGHTS = "/weights"
router = APIRouter()


def _service(request: Request) -> GenerationService:
    service: GenerationService = request.app.state.generation
    return service


ServiceDep = Annotated[GenerationService, Depends(_service)]
JsonObject = Annotated[dict[str, Any], Body()]
WantedDigest = Annotated[str | None, Header(alias=DIGEST_HEADER)]


@router.get(WEIGHTS, tags=["weights"])
def get_weights(service: ServiceDep) -> WeightInfo:
    """What is loaded."""
    return service.info()


@router.post(WEIGHTS, tags=["weights"])
async def swap_weights(body: WeightSwapRequest, service: ServiceDep) -> WeightSwapResult:
    """Load a checkpoint in place of the one that is loaded; answers once requests are served again."""
    return await service.swap(body)


@router.post(f"{WEIGHTS}/adapters", tags=["weights"])
async def load_adapter(body: AdapterLoad, service: ServiceDep) -> AdapterInfo:
    """Serve a LoRA adapter beside the loaded weights, until they are swapped."""
    return await service.load_adapter(body)


@router.get("/v1/models", tags=["openai"])
def list_models(service: ServiceDep) -> ServedModels:
    """What a request may name as `model`."""
    return service.models()


@router.post(
    "/v1/completions",
    tags=["openai"],
    responses=OPENAI_ANSWERS,
    openapi_extra=described_body(CompletionRequest),
)
async def complete(body: JsonObject, service: ServiceDep, wanted_digest: WantedDigest = None) -> Response:
    """OpenAI's completions; refused when the header names other weights than those that are loaded."""
    return await service.answer("/v1/completions", body, wanted_digest)


@router.post(
    "/v1/chat/completions",
    tags=["openai"],
    responses=OPENAI_ANSWERS,
    openapi_extra=described_body(ChatRequest),
)
async def chat(body: JsonObject, service: ServiceDep, wanted_digest: WantedDigest = None) -> Response:
    """OpenAI's chat completions, with the template of the model's tokenizer."""
    return await service.answer("/v1/chat/completions", body, wanted_digest)
