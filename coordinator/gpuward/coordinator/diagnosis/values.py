"""What the centre knows of a service in trouble, and what it makes of it.

Both are written to the timeline, so the names of fields and enum values are kept for ever.  A case
is counts and a few examples, however many replicas there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

# msgspec reads the annotations at run time.
from gpuward.coordinator.terms import Action, CauseDomain

UNDETERMINED = "undetermined"


class Scope(StrEnum):
    """How much of the service a cause is at."""

    NONE = "none"
    ONE = "one"
    SEVERAL = "several"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Cohort:
    """The replicas whose nodes tell the same cause, be they sure of it or not.

    ``replicas``, ``nodes``, ``hurt`` and ``well`` are counts; ``places`` names a few of them.
    ``advice``, ``next_test``, ``supports`` and ``contradicts`` are those of the surest.
    """

    cause: str
    confidence: float
    replicas: int
    nodes: int
    since_s: float
    domain: CauseDomain = CauseDomain.CAPACITY
    action: Action = Action.NONE
    # The upstream that is blamed, where one is.
    upstream: str = ""
    hurt: int = 0
    well: int = 0
    places: tuple[str, ...] = ()
    advice: str = ""
    next_test: str = ""
    supports: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    # Names of the evidence for it.
    signs: tuple[str, ...] = ()
    # What an unsure one wavers between.
    rivals: tuple[str, ...] = ()
    # Keys of the findings that these blame, then their own.
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream in trouble, as serving nodes see it; ``services``: others that blame it."""

    name: str
    is_down: bool
    nodes: int
    since_s: float
    services: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Starts:
    """Replicas that began anew shortly before users were hurt; ``hurt``, ``well``: of them."""

    replicas: int
    hurt: int
    well: int
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Change:
    """What replicas run instead of what ran before, in words; ``at_s``: the first since."""

    words: str
    replicas: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """How many nodes answer a question of the runbook with yes, no and unknown."""

    question: int
    yes: int = 0
    no: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a diagnosis at ``at_s`` rests on; ``heard`` replicas of ``replicas`` report.

    ``hurt`` and ``well``: of those heard; of the rest too little is known.  ``onset_s``: when users
    were first hurt.
    """

    service: str
    onset_s: float
    at_s: float
    replicas: int = 0
    heard: int = 0
    hurt: int = 0
    well: int = 0
    hurt_places: tuple[str, ...] = ()
    cohorts: tuple[Cohort, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    starts: Starts | None = None
    # Replicas whose start is known; that began anew in the day before, and when the last of them.
    dated: int = 0
    began_anew: int = 0
    last_began_s: float = 0.0
    # Of the day before, those that most replicas show first.
    changes: tuple[Change, ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether no users are hurt any more, and some are known to be well."""
        return not self.hurt and self.well > 0

    @property
    def is_silent(self) -> bool:
        """Whether nothing here could tell one cause from another."""
        tells = self.cohorts or self.upstreams or self.starts
        return not tells and not (self.hurt and self.replicas > 1)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause of a service's trouble, or ``UNDETERMINED``, with what speaks for and against.

    ``about``: the upstream, or the one place; ``headline``: a few words for a lock screen;
    ``besides``: other causes that are true or follow, or what it is undecided between; ``grounds``:
    names of what speaks for and against, and of what is ruled out; ``blames``: keys of the findings
    in which the cause shows.
    """

    cause: str
    scope: Scope
    headline: str
    summary: str
    confidence: float
    at_s: float
    # None while undetermined.
    domain: CauseDomain | None = None
    about: str = ""
    action: Action = Action.NONE
    advice: str = ""
    next_test: str = ""
    supports: tuple[str, ...] = ()
    contradicts: tuple[str, ...] = ()
    ruled_out: tuple[str, ...] = ()
    # Changes of the day before that may have to do with it.
    suspects: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    grounds: tuple[str, ...] = ()
    blames: tuple[str, ...] = ()

    @property
    def is_determined(self) -> bool:
        return self.cause != UNDETERMINED
