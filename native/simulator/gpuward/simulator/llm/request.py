"""A request in an engine, from its arrival to its end."""

from __future__ import annotations

from enum import StrEnum


class FinishedReason(StrEnum):
    """How a request ended, in vLLM's words."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"
    REPETITION = "repetition"


class Request:
    """One request; equal only to itself.

    ``talk``: requests of one talk begin with the same words.  Times are the engine's; one that has
    not come yet is negative.
    """

    __slots__ = (
        *("number", "arrived_s", "prompt_tokens", "output_tokens", "talk"),
        *("scheduled_s", "first_token_s", "last_token_s", "finished"),
        *("generated", "computed", "blocks", "decodes_from", "turn"),
    )

    def __init__(
        self, number: int, arrived_s: float, prompt_tokens: int, output_tokens: int, talk: int
    ) -> None:
        self.number = number
        self.arrived_s = arrived_s
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.talk = talk
        self.scheduled_s = self.first_token_s = self.last_token_s = -1.0
        self.finished: FinishedReason | None = None
        # Output tokens, but for those of the decoding that is under way.
        self.generated = 0
        # Tokens whose keys and values are in the cache, likewise.
        self.computed = 0
        self.blocks = 0
        # The step that gave the first token of this decoding; negative while it does not decode.
        self.decodes_from = -1
        # How often it was put back: tells this turn of it from an earlier one.
        self.turn = 0

    @property
    def to_compute(self) -> int:
        """Tokens that must be in the cache before the next one can be generated."""
        return self.prompt_tokens + self.generated
