"""A service whose requests all fail, or all hang, is reported within a minute.

Real samplers over loopback and the real judge, on a clock that the test moves second by second.
Users send one request in a hundred seconds, or ten a second.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.kinds import class_of
from gpuward.agent.model import FindingClass
from gpuward.agent.samplers.endpoint import EndpointSampler
from gpuward.agent.samplers.endpoint_canary import Canaries
from gpuward.agent.samplers.endpoint_config import EndpointConfig
from gpuward.agent.samplers.engine import EngineSampler

WARM_S = 320
REPORTED_WITHIN_S = 60
OUTAGE, FAILING = "service.outage", "service.endpoint.failing"


class Users:
    """Send requests to a server that is counted as vLLM counts; ten seconds each."""

    def __init__(self, server, per_second):
        self.server = server
        self.per_second = per_second
        self.good = self.failed = self.tokens = self.sent = self.running = 0.0

    def second(self):
        self.sent += self.per_second
        # An engine that hangs has room for so many; the others wait outside of it.
        if self.server.mode == "hang":
            self.running = min(256.0, self.running + self.per_second)
        elif self.server.mode == "good":
            self.good += self.per_second
            self.running = 10 * self.per_second
            self.tokens += 30 * self.running
        else:
            self.failed += self.per_second
            self.running = 0.0
        self.server.page = (
            "process_start_time_seconds 500\n"
            f'vllm:request_success_total{{finished_reason="stop"}} {int(self.good)}\n'
            f'vllm:request_success_total{{finished_reason="error"}} {int(self.failed)}\n'
            f"vllm:generation_tokens_total {int(self.tokens)}\n"
            f"vllm:num_requests_running {int(self.running)}\n"
            "vllm:num_requests_waiting 0\n"
        )


@pytest.fixture
async def node(clock, make_judge, loopback, tmp_path):
    """Watch servers: the returned function moves the clock on and returns what is open."""
    async with AsyncExitStack() as parts:

        async def watch(users, endpoints):
            judge = make_judge()
            engines = [EngineConfig(service="chat", url=each.server.url) for each in users]
            samplers = [EngineSampler(engines, clock)]
            if endpoints:
                samplers.append(
                    EndpointSampler(
                        endpoints,
                        clock,
                        services=lambda: judge.snapshot.services,
                        is_maintained=lambda: False,
                        may_load=lambda _: True,
                        jitter=random.Random(1),
                        canaries=Canaries(tmp_path / "canary.json"),
                    )
                )
            for sampler in samplers:
                await parts.enter_async_context(sampler)

            async def second():
                await clock.advance(1.0)
                for each in users:
                    each.second()
                for sampler in samplers:
                    judge.take(sampler.name, await sampler.sample(clock.mono_s()))
                await loopback()
                judge.tick()
                return {
                    opened.finding.kind: opened.finding for opened in judge.snapshot.open_findings
                }

            return second

        yield watch


async def until(second, kind, limit_s):
    """Return after how many seconds ``kind`` is open, ``None`` when it is not in time."""
    for passed_s in range(1, limit_s + 1):
        if kind in await second():
            return passed_s
    return None


@pytest.mark.parametrize("per_second", [0.01, 10.0])
@pytest.mark.parametrize("mode", [500, "hang"])
@pytest.mark.parametrize("phase_s", [0, 4, 8, 12])
async def test_it_is_reported_within_a_minute(llm, node, mode, per_second, phase_s):
    """Whenever between two of our requests it begins."""
    second = await node([Users(llm, per_second)], [EndpointConfig(service="chat", url=llm.url)])
    for _ in range(WARM_S + phase_s):
        assert {} == await second()
    llm.mode = mode

    took_s = await until(second, OUTAGE, REPORTED_WITHIN_S)

    assert took_s is not None
    found = await second()
    assert class_of(found[OUTAGE]) is FindingClass.PAGE
    assert found[OUTAGE].subject.service == "chat"


@pytest.mark.parametrize("mode", [500, "hang"])
async def test_counters_alone_tell_where_many_requests_come(llm, node, mode):
    second = await node([Users(llm, 10.0)], [])
    for _ in range(WARM_S):
        assert {} == await second()
    llm.mode = mode

    assert await until(second, OUTAGE, REPORTED_WITHIN_S) is not None
    for _ in range(400):
        assert OUTAGE in await second(), "while it lasts"
