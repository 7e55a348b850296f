"""The workload's users: requests at a steady rate, which after a while begin to hurt.

For ``healthy_s`` seconds prompts are of every length and memory is reused as it comes free.  Then
requests begin to name adapters, a new one every few requests until there are ``ADAPTERS``, and the
engine's memory falls to pieces.  The same seed sends the same requests in the same order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import msgspec

from gpuward.simulator import http_client
from gpuward.simulator.workload_engine import CompletionRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.daemon.clock import Clock

ADAPTERS = 50
REQUESTS_PER_ADAPTER = 4
LONG_PROMPT_SHARE = 0.6
SHORT_PROMPT = (128, 2_000)
LONG_PROMPT = (6_000, 16_000)
OUTPUT_TOKENS = (8, 48)
MAX_IN_FLIGHT = 64
REPLY_TIMEOUT_S = 30.0


def requests(seed: int, healthy_requests: int) -> Iterator[CompletionRequest]:
    """Yield requests without end, the first ``healthy_requests`` without adapters."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    sent = adapters = 0
    while True:
        long = chance.random() < LONG_PROMPT_SHARE
        prompt_tokens = chance.randint(*(LONG_PROMPT if long else SHORT_PROMPT))
        max_tokens = chance.randint(*OUTPUT_TOKENS)
        adapter = ""
        if sent >= healthy_requests and sent % REQUESTS_PER_ADAPTER == 0:
            adapter = f"tenant-{adapters % ADAPTERS}"
            adapters += 1
        yield CompletionRequest(prompt_tokens, max_tokens, adapter)
        sent += 1


async def send_for_ever(
    port: int, clock: Clock, *, per_second: float, healthy_s: float, seed: int
) -> None:
    """Send ``requests`` to the server on ``port`` at ``per_second``, whatever it answers.

    With ``MAX_IN_FLIGHT`` unanswered the next one waits, as callers behind a gateway do.
    """
    slots = asyncio.Semaphore(MAX_IN_FLIGHT)
    due_s = clock.mono_s()
    async with asyncio.TaskGroup() as group:
        for request in requests(seed, int(healthy_s * per_second)):
            await clock.sleep_until(due_s)
            due_s = max(due_s + 1 / per_second, clock.mono_s() - 1.0)
            await slots.acquire()
            sent = group.create_task(_send(port, request))
            sent.add_done_callback(lambda _: slots.release())


async def _send(port: int, request: CompletionRequest) -> None:
    body = msgspec.json.encode(request)
    address = f"127.0.0.1:{port}"
    # A user who gets no answer goes away; the server's own counters tell the rest.
    with contextlib.suppress(http_client.Unreachable):
        await http_client.request(
            address, "POST", "/v1/completions", body, timeout_s=REPLY_TIMEOUT_S
        )
