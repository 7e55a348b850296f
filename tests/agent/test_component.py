"""The one place that catches everything."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gpuward.agent.component import Components
from gpuward.agent.model import ComponentHealth, Result


def test_a_failure_is_said_once_until_it_recovers():
    components = Components()
    with capture_logs() as logs:
        for works in (True, False, False, True, True, False):
            with components.contain("sampler.x"):
                if not works:
                    raise ValueError("line one\nline two")

    assert [log["event"] for log in logs] == [
        "component.failed",
        "component.recovered",
        "component.failed",
    ]
    assert components.health == (
        ComponentHealth("sampler.x", Result.FAIL, "ValueError: line one line two"),
    )


def test_a_timeout_says_so():
    components = Components()
    with components.contain("sampler.x"):
        raise TimeoutError

    assert components.health[0].reason == "timed out"


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_not_caught(error):
    with pytest.raises(error), Components().contain("sampler.x"):
        raise error


def test_a_part_that_works_may_say_that_it_cannot_see():
    components = Components()
    blind = ComponentHealth("kmsg", Result.UNKNOWN, "/dev/kmsg: Permission denied")
    with components.contain("sampler.kmsg"):
        components.note("sampler.kmsg", blind)

    assert components.health == (
        ComponentHealth("sampler.kmsg", Result.UNKNOWN, "/dev/kmsg: Permission denied"),
    )
