"""The second process that is asked before anybody is told to reboot."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest

from gpuward.agent.nvml_protocol import Waiting
from gpuward.agent.nvml_witness import Witness

STAND_IN = Path(__file__).parent / "nvml_child_stand_in.py"


@pytest.fixture
async def make():
    """Start witnesses that behave as told; they end with the test."""
    made = []

    def make(behaviour):
        made.append(Witness((sys.executable, str(STAND_IN), behaviour), {}))
        return made[-1]

    yield make
    for witness in made:
        await witness.stop()


def call(index=1):
    return Waiting(index, "nvmlDeviceGetPowerUsage", time.monotonic(), 1)


async def seen(witness, waiting, *, ahead_s, wanted):
    async with asyncio.timeout(200):
        while not wanted(witness):
            witness.look(waiting, time.monotonic() + ahead_s)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("waited_s", "is_asked"),
    [pytest.param(19.0, False, id="19 s"), pytest.param(21.0, True, id="21 s")],
)
async def test_asked_after_twenty_seconds(make, waited_s, is_asked):
    witness = make("be_silent")
    witness.look(call(), time.monotonic() + waited_s)

    assert (witness._link is not None) is is_asked


@pytest.mark.parametrize(
    ("behaviour", "index", "confirms"),
    [
        pytest.param("stall", 1, True, id="it hangs on the same GPU"),
        pytest.param("hang_in_init", 1, True, id="it hangs before it comes to that GPU"),
        pytest.param("hang_in_init", -1, True, id="it hangs where the first one does"),
        pytest.param("answer", 1, False, id="the GPU answers it"),
        pytest.param("answer", -1, False, id="the driver answers it"),
        pytest.param("missing", 1, False, id="there is no driver any more"),
    ],
)
async def test_what_it_says(make, behaviour, index, confirms):
    """Silence of its own that is ten seconds old confirms; it is let go of in any case."""
    witness = make(behaviour)
    await seen(witness, call(index), ahead_s=35.0, wanted=lambda it: it._was_asked and not it._link)

    assert witness.confirms is confirms


async def test_its_word_ends_with_the_hang(make):
    witness = make("stall")
    await seen(witness, call(), ahead_s=35.0, wanted=lambda it: it.confirms)
    witness.look(None, time.monotonic() + 36.0)

    assert not witness.confirms


async def test_no_other_while_one_is_held(make):
    """Each may hold driver memory and locks until the reboot: hangs come and go, one stays."""
    witness = make("stall")
    await seen(witness, call(), ahead_s=35.0, wanted=lambda it: it.confirms)
    witness.look(None, time.monotonic() + 36.0)
    witness.look(call(), time.monotonic() + 60.0)

    assert witness.held == 1
    assert witness._link is None


async def test_one_that_cannot_be_started_confirms_nothing():
    witness = Witness(("/nonexistent",), {})
    witness.look(call(), time.monotonic() + 30.0)

    assert not witness.confirms
