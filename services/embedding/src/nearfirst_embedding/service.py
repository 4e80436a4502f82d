"""What POST /v1/embeddings takes, refuses and answers."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import BodyTooLarge, InvalidInput, NotFound, Overloaded
from nearfirst_embedding.encoder import Encoder, refuse_empty_texts
from nearfirst_embedding.schemas import EmbeddingItem, EmbeddingsRequest, EmbeddingsResponse, Usage
from nearfirst_embedding.settings import EmbeddingSettings


class EmbeddingService:
    """One encoder, for requests from several threads."""

    def __init__(self, encoder: Encoder, settings: EmbeddingSettings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._places = threading.BoundedSemaphore(settings.max_requests)

    def embeddings(self, request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Compute one request.

        Raises:
            NotFound: it asks for another model.
            InvalidInput: no text, an empty one, or another number of dimensions than the model's.
            BodyTooLarge: more than `max_inputs` texts.
            Overloaded: `max_requests` others are computed or wait.
        """
        self._refuse_what_is_not_served(request)
        texts = request.texts
        with self._place():
            tokenized = self._encoder.tokenize(texts)
            vectors_ND = self._encoder.encode(texts, tokenized)
        num_tokens = int(tokenized.lengths.sum())
        return EmbeddingsResponse(
            data=[
                EmbeddingItem(index=index, embedding=_on_the_wire(vector_D, request.encoding_format))
                for index, vector_D in enumerate(vectors_ND)
            ],
            model=request.model,
            usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )

    def _refuse_what_is_not_served(self, request: EmbeddingsRequest) -> None:
        if request.model != self._settings.model:
            raise NotFound(f"model {request.model!r} isn't served here; wanted {self._settings.model!r}")
        if request.dimensions not in (None, self._encoder.dimensions):
            raise InvalidInput(
                f"dimensions is {request.dimensions}; vectors of {request.model!r} have {self._encoder.dimensions}"
            )
        num_texts, limit = len(request.texts), self._settings.max_inputs
        if num_texts > limit:
            raise BodyTooLarge(f"input has {num_texts} texts; at most {limit} are taken in one request")
        refuse_empty_texts(request.texts)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for requests in progress."""
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"{self._settings.max_requests} requests are in progress; send this one again later")
        try:
            yield
        finally:
            self._places.release()


def _on_the_wire(vector_D: npt.NDArray[np.float32], encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector_D.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector_D.tolist()
    return numbers
