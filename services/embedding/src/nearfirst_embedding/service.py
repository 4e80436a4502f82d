"""What POST /v1/embeddings takes, refuses and answers."""

import base64
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import BodyTooLarge, InvalidInput, NotFound
from nearfirst.web.places import RequestPlaces
from nearfirst_embedding.encoder import TransformerEncoder
from nearfirst_embedding.representations import refuse_broken_vectors, refuse_unusable_texts
from nearfirst_embedding.schemas import EmbeddingItem, EmbeddingsRequest, EmbeddingsResponse, Usage
from nearfirst_embedding.settings import EmbeddingSettings
from nearfirst_embedding.tokens import TokenizedTexts


class EmbeddingService:
    """One encoder, for requests from several threads."""

    def __init__(self, encoder: TransformerEncoder, settings: EmbeddingSettings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._places = RequestPlaces(settings.max_requests, settings.retry_after_s)

    def embeddings(self, request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Compute one request.

        Raises:
            NotFound: it asks for another model.
            InvalidInput: no text, one that is empty or no Unicode, a token that the model doesn't have, or another
                number of dimensions than the model's.
            BodyTooLarge: more than `max_inputs` texts or `max_batch_tokens` tokens; token ids over the model's limit,
                or a text over it when the request forbids truncation.
            Overloaded: `max_requests` others are computed or wait.
        """
        self._refuse_what_is_not_served(request)
        with self.place():
            tokenized = self._tokens(request)
            num_tokens = int(tokenized.lengths.sum())
            if num_tokens > self._settings.max_batch_tokens:
                raise BodyTooLarge(
                    f"input has {num_tokens} tokens; at most {self._settings.max_batch_tokens} are taken in one request"
                )
            vectors_ND = self._encoder.encode(tokenized)
        refuse_broken_vectors(vectors_ND, range(len(vectors_ND)))
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
        num_inputs, limit = request.num_inputs, self._settings.max_inputs
        if num_inputs > limit:
            raise BodyTooLarge(f"input has {num_inputs} texts; at most {limit} are taken in one request")
        if request.texts is not None:
            refuse_unusable_texts(request.texts)
        else:
            self._refuse_unknown_tokens(request.sequences)

    def _refuse_unknown_tokens(self, sequences: Sequence[Sequence[int]]) -> None:
        vocabulary_size = self._encoder.model.tokenizer.vocabulary_size
        limit = self._encoder.max_length
        for row, sequence in enumerate(sequences):
            unknown = next((token for token in sequence if not 0 <= token < vocabulary_size), None)
            if unknown is not None:
                raise InvalidInput(f"row {row}: token {unknown}; wanted 0 to {vocabulary_size - 1}")
            if len(sequence) > limit:
                raise BodyTooLarge(f"row {row} has {len(sequence)} tokens; the model takes {limit}")

    def _tokens(self, request: EmbeddingsRequest) -> TokenizedTexts:
        texts = request.texts
        if texts is None:
            sequences = request.sequences
            return TokenizedTexts.from_lists(sequences, [False] * len(sequences))
        tokenized = self._encoder.tokenize(texts)
        if not request.truncate and tokenized.truncated.any():
            row = int(np.argmax(tokenized.truncated))
            num_tokens = self._encoder.model.tokenizer.num_tokens(texts[row])
            raise BodyTooLarge(
                f"row {row} has {num_tokens} tokens; the model takes {self._encoder.max_length} and truncate is false"
            )
        return tokenized

    def place(self) -> AbstractContextManager[None]:
        """One of the places for requests in progress.

        Raises:
            Overloaded: on entering, when all of them are taken.
        """
        return self._places.taken()


def _on_the_wire(vector_D: npt.NDArray[np.float32], encoding_format: str) -> list[float] | str:
    if encoding_format == "base64":
        return base64.b64encode(vector_D.astype("<f4").tobytes()).decode()
    numbers: list[float] = vector_D.tolist()
    return numbers
