"""Writers of tap files are named as the driver's list names them, and in time without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuward.agent.model import Process
from gpuward.agent.samplers.tap_identity import WriterNames
from gpuward.daemon.testing import FakeClock

HERE = os.getpid()
PROC = Path("/proc")


async def test_the_name_that_the_driver_knows_wins():
    """Driver and tap give one process one key, also when the driver lists it a little later."""
    listed = []
    clock = FakeClock()
    names = WriterNames(lambda: listed, clock)

    assert names(HERE, PROC) is None
    await clock.advance(5.0)
    listed.append(Process("vllm:llama", HERE, 1, engine="vllm"))

    assert "vllm:llama" == names(HERE, PROC).key


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
