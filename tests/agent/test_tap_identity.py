"""Writers of tap files are named as the driver's list names them, and in time without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuward.agent.model import Process
from gpuward.agent.process_identity import place
from gpuward.agent.samplers.tap_identity import WriterNames
from gpuward.daemon.testing import FakeClock

HERE = os.getpid()
PROC = Path("/proc")
STARTED = place(HERE, PROC).start_ticks


async def test_the_name_that_the_driver_knows_wins():
    """Driver and tap give one process one key, also when the driver lists it a little later."""
    listed = []
    clock = FakeClock()
    names = WriterNames(lambda: listed, clock)

    assert names(HERE, PROC) is None
    await clock.advance(5.0)
    listed.append(Process("vllm:llama", HERE, STARTED, engine="vllm"))

    assert "vllm:llama" == names(HERE, PROC).key


@pytest.mark.parametrize("started", [STARTED - 1, 0], ids=["another had the pid", "who had it"])
async def test_an_old_list_names_nobody_by_a_pid_alone(started):
    clock = FakeClock()
    names = WriterNames(lambda: [Process("other", HERE, started)], clock)

    assert names(HERE, PROC) is None
    await clock.advance(15.0)

    assert "other" != names(HERE, PROC).key


@pytest.mark.parametrize(
    ("waited_s", "is_named"),
    [pytest.param(14.9, False, id="may still come"), pytest.param(15.0, True, id="in vain")],
)
async def test_a_process_that_the_driver_does_not_list_is_named_by_its_place(waited_s, is_named):
    clock = FakeClock()
    names = WriterNames(list, clock)

    assert names(HERE, PROC) is None
    await clock.advance(waited_s)

    assert is_named == (names(HERE, PROC) is not None)


async def test_a_process_that_is_gone_is_nobody(tmp_path):
    clock = FakeClock()
    names = WriterNames(list, clock)

    names(1, tmp_path)
    await clock.advance(60.0)

    assert names(1, tmp_path) is None
