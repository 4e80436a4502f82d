"""What POST /score takes, refuses and answers."""

from nearfirst.contracts.problems import BodyTooLarge
from nearfirst.contracts.scoring import RewardModelInfo, ScoreRequest, ScoreResponse
from nearfirst.web.places import RequestPlaces
from nearfirst_scoring.scorer import LocalScorer, score_tokens
from nearfirst_scoring.settings import ScoringSettings


class ScoringService:
    """One reward model, for requests from several threads."""

    def __init__(self, scorer: LocalScorer, settings: ScoringSettings) -> None:
        """Asks the engine for its version, which every answer has.

        Raises:
            Unavailable: the engine is elsewhere and can't be reached.
        """
        self._scorer = scorer
        self._settings = settings
        self._info = scorer.info()
        self._places = RequestPlaces(settings.max_requests, settings.retry_after_s)

    def info(self) -> RewardModelInfo:
        """Which model judges, and how."""
        return self._info

    def check(self) -> None:
        """Ask whether the engine can work.

        Raises:
            Unavailable: it is elsewhere and can't be reached.
        """
        self._scorer.engine.check(self._info.max_length)

    def score(self, request: ScoreRequest) -> ScoreResponse:
        """Compute one request.

        Raises:
            InvalidInput: a text that UTF-8 can't hold.
            BodyTooLarge: more than `max_pairs` pairs or `max_request_tokens` tokens.
            Overloaded: `max_requests` others are computed or wait.
        """
        if len(request.pairs) > self._settings.max_pairs:
            raise BodyTooLarge(
                f"pairs: got {len(request.pairs)}; at most {self._settings.max_pairs} are taken in one request"
            )
        with self._places.taken():
            tokenized = self._scorer.tokenizer.tokenize(request.pairs)
            num_tokens = sum(len(sequence) for sequence in tokenized.sequences)
            if num_tokens > self._settings.max_request_tokens:
                raise BodyTooLarge(
                    f"pairs have {num_tokens} tokens; at most {self._settings.max_request_tokens} are taken in one "
                    "request"
                )
            scored = score_tokens(tokenized, self._scorer.engine)
        return ScoreResponse(rewards=scored.rewards.tolist(), truncated=scored.truncated, provenance=self._info)
