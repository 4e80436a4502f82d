"""OpenAI's completions from an engine that has no server of its own: the fields that evaluations and tries use."""

import time
import uuid
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse
from jinja2 import TemplateError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from nearfirst.contracts.generation import GenerationSettings
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst_generation.checkpoint_tokenizer import TokenizerCache
from nearfirst_generation.engine import Completion, Engine
from nearfirst_generation.schemas import ChatRequest, CompletionRequest, SamplingFields


class OwnAnswers:
    """Answers of an engine's loaded weights, with the tokenizer of their folder."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tokenizers = TokenizerCache()

    async def answer(self, path: str, body: dict[str, Any], adapter: str | None) -> Response:
        """The answer to /v1/completions or /v1/chat/completions.

        Raises:
            InvalidInput: a field is wrong or not known here, or a prompt doesn't fit.
        """
        answer = self._chat if path.endswith("/chat/completions") else self._complete
        try:
            return JSONResponse(await run_in_threadpool(answer, body, adapter))
        except ValidationError as error:
            raise invalid_input_from_validation(error, "request") from error

    async def close(self) -> None:
        """Nothing is held."""

    def _complete(self, body: dict[str, Any], adapter: str | None) -> dict[str, Any]:
        fields = CompletionRequest.model_validate(body)
        prompts = self._prompts(fields.prompt)
        completions = self._ask(prompts, fields, adapter)
        choices = []
        for index, completion in enumerate(completions):
            choice = {"text": self._text(completion), "token_ids": completion.token_ids}
            choices.append(_choice(index, completion, choice if fields.return_token_ids else {"text": choice["text"]}))
        return self._answer("text_completion", prompts, completions, choices)

    def _chat(self, body: dict[str, Any], adapter: str | None) -> dict[str, Any]:
        fields = ChatRequest.model_validate(body)
        messages = [message.model_dump() for message in fields.messages]
        tokenizer = self._tokenizer()
        try:
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        except (ValueError, TypeError, TemplateError) as error:  # none is there, or it refuses these messages
            raise InvalidInput(f"messages: the model's tokenizer can't make a prompt of them: {error}") from error
        completions = self._ask([prompt], fields, adapter)
        message = {"role": "assistant", "content": self._text(completions[0])}
        choices = [_choice(0, completions[0], {"message": message})]
        return self._answer("chat.completion", [prompt], completions, choices)

    def _ask(self, prompts: list[list[int]], fields: SamplingFields, adapter: str | None) -> list[Completion]:
        info = self._engine.info()
        digests = {each.name: each.digest for each in info.adapters}
        return self._engine.complete(
            prompts,
            _settings(fields),
            model_digest=info.digest if adapter is None else digests[adapter],
            indices=range(len(prompts)),
            adapter=adapter,
        )

    def _prompts(self, given: str | list[str] | list[int] | list[list[int]]) -> list[list[int]]:
        if isinstance(given, str):
            return [self._encoded(given)]
        if not given:
            raise InvalidInput("prompt: got an empty list, wanted texts or token ids")
        tokens = [each for each in given if isinstance(each, int)]
        if tokens:
            return [tokens]
        return [self._encoded(each) if isinstance(each, str) else each for each in given if not isinstance(each, int)]

    def _encoded(self, text: str) -> list[int]:
        try:
            text.encode()  # no tokenizer reads half of a surrogate pair
        except UnicodeEncodeError as error:
            raise InvalidInput(f"prompt: character {error.start} is half of a surrogate pair") from error
        token_ids: list[int] = self._tokenizer().encode(text)
        return token_ids

    def _tokenizer(self) -> Any:
        return self._tokenizers.load(Path(self._engine.info().path)).tokenizer

    def _text(self, completion: Completion) -> str:
        return str(self._tokenizer().decode(completion.token_ids, skip_special_tokens=True))

    def _answer(
        self, kind: str, prompts: list[list[int]], completions: list[Completion], choices: list[dict[str, Any]]
    ) -> dict[str, Any]:
        num_prompt = sum(len(prompt) for prompt in prompts)
        num_completion = sum(len(completion.token_ids) for completion in completions)
        return {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self._engine.info().version,
            "choices": choices,
            "usage": {
                "prompt_tokens": num_prompt,
                "completion_tokens": num_completion,
                "total_tokens": num_prompt + num_completion,
            },
        }


def _settings(fields: SamplingFields) -> GenerationSettings:
    """As an engine takes them; sampling without a seed is refused."""
    try:
        return GenerationSettings(
            temperature=fields.temperature,
            top_p=fields.top_p,
            max_new_tokens=fields.max_tokens,
            repetition_penalty=fields.repetition_penalty,
            seed=fields.seed,
        )
    except ValidationError as error:
        raise invalid_input_from_validation(error, "request") from error


def _choice(index: int, completion: Completion, content: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "finish_reason": completion.finish_reason, "logprobs": None, **content}
