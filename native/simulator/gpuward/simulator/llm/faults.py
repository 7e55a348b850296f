"""What can go wrong with an engine, from when to when, and how badly.

``Conditions`` is what all faults of a moment come to; the engine works under it.  What a fault does
to the node beside the engine (clocks, heat, links, other processes) is told elsewhere: here it is
what the engine feels of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STALL_EVERY_S = 10.0
MINUTE_S = 60.0


class Trouble(StrEnum):
    """Kinds of trouble; the unit of ``Fault.amount`` stands with each."""

    # Every step takes so many times as long.
    SLOWER = "slower"
    # Steps become slower by this share of a healthy one every minute.
    DRIFT = "drift"
    # Prompts take so many times as long, decoding does not.
    SLOWER_PREFILL = "slower_prefill"
    # Stands still for so many seconds, every ten.
    STALL = "stall"
    # Another process has this share of the GPU's time, in slices and bursts.
    TIME_SLICE = "time_slice"
    # The engine's own threads wait for a core so many seconds a step, in the mean.
    CPU_STARVED = "cpu_starved"
    # This share of the KV cache is all that is left.
    KV_SHORTAGE = "kv_shortage"
    # Prompts are so many times as long.
    LONGER_PROMPTS = "longer_prompts"
    # Answers are so many times as long, and hold their place and their blocks for as long.
    LONGER_ANSWERS = "longer_answers"
    # So many times as many requests come.
    OVERLOAD = "overload"
    # This share of requests is answered with status 500.
    FAILURES = "failures"
    # This share of tokens is not what the model says, with status 200 all the same.
    CORRUPT = "corrupt"
    # No step ends any more; the page shows what it showed last.
    HANG = "hang"
    # The process goes, and another is started after so many seconds.
    RESTART = "restart"
    # The page is not served; ``Fault.page`` says how.
    PAGE_DOWN = "page_down"
    # The machine's wall clock is off by so many seconds.
    CLOCK_SKEW = "clock_skew"


class PageTrouble(StrEnum):
    """How a page is not served."""

    REFUSED = "refused"
    TIMES_OUT = "times_out"
    STATUS_500 = "status_500"


@dataclass(frozen=True, slots=True)
class Fault:
    """Trouble from ``onset_s`` until ``until_s``, in the engine's time."""

    trouble: Trouble
    amount: float = 0.0
    onset_s: float = 0.0
    until_s: float = math.inf
    page: PageTrouble = PageTrouble.REFUSED


@dataclass(slots=True)
class Conditions:
    """What an engine works under."""

    slower: float = 1.0
    slower_prefill: float = 1.0
    stall_s: float = 0.0
    foreign_share: float = 0.0
    cpu_wait_s: float = 0.0
    kv_share: float = 1.0
    longer_prompts: float = 1.0
    longer_answers: float = 1.0
    overload: float = 1.0
    failing_share: float = 0.0
    corrupt_share: float = 0.0
    hangs: bool = False
    page: PageTrouble | None = None
    wall_offset_s: float = 0.0


# What troubles do to the field of Conditions that is theirs.
MULTIPLIES = {
    Trouble.SLOWER: "slower",
    Trouble.SLOWER_PREFILL: "slower_prefill",
    Trouble.KV_SHORTAGE: "kv_share",
    Trouble.LONGER_PROMPTS: "longer_prompts",
    Trouble.LONGER_ANSWERS: "longer_answers",
    Trouble.OVERLOAD: "overload",
}
ADDS = {
    Trouble.STALL: "stall_s",
    Trouble.CPU_STARVED: "cpu_wait_s",
    Trouble.CLOCK_SKEW: "wall_offset_s",
}
SHARES = {
    Trouble.TIME_SLICE: "foreign_share",
    Trouble.FAILURES: "failing_share",
    Trouble.CORRUPT: "corrupt_share",
}


def parse(text: str) -> Fault:
    """Return the fault that ``text`` names: ``slower=1.5@60``, ``page_down=status_500@10``.

    Trouble, amount where it has one, seconds of its onset where it is not there from the start.
    Raises ``ValueError``.
    """
    what, _, onset = text.partition("@")
    name, _, amount = what.partition("=")
    try:
        trouble, onset_s = Trouble(name), float(onset or 0.0)
        if trouble is Trouble.PAGE_DOWN:
            return Fault(trouble, onset_s=onset_s, page=PageTrouble(amount or "refused"))
        return Fault(trouble, float(amount or 0.0), onset_s)
    except ValueError as error:
        raise ValueError(f"fault {text!r} is not TROUBLE[=AMOUNT][@SECONDS]: {error}") from error


def conditions(faults: Iterable[Fault], now_s: float) -> Conditions:
    """Return what ``faults`` come to at ``now_s``; the same trouble twice adds up."""
    found = Conditions()
    for fault in faults:
        if fault.onset_s <= now_s < fault.until_s:
            _add(found, fault, now_s - fault.onset_s)
    return found


def _add(found: Conditions, fault: Fault, since_s: float) -> None:
    trouble, amount = fault.trouble, fault.amount
    if field := MULTIPLIES.get(trouble):
        setattr(found, field, getattr(found, field) * amount)
    elif field := ADDS.get(trouble):
        setattr(found, field, getattr(found, field) + amount)
    elif field := SHARES.get(trouble):
        setattr(found, field, 1.0 - (1.0 - getattr(found, field)) * (1.0 - amount))
    elif trouble is Trouble.DRIFT:
        found.slower *= 1.0 + amount * since_s / MINUTE_S
    elif trouble is Trouble.HANG:
        found.hangs = True
    elif trouble is Trouble.PAGE_DOWN:
        found.page = fault.page
    # A restart happens once, at its onset: see the engine.
