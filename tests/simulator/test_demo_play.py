"""However the demo ends, no part of it runs on."""

import asyncio
import io

import pytest

from gpuward.daemon.testing import FakeClock
from gpuward.simulator.demo import play
from gpuward.simulator.demo.narrator import Narrator


class NobodyReads(io.StringIO):
    """Takes the first lines, as `head -2` does."""

    def write(self, text):
        if self.getvalue().count("\n") > 2:
            raise BrokenPipeError
        return super().write(text)


class World:
    closed = False

    def __init__(self, root, clock, plan):
        self.root = root

    async def start(self):
        raise play.PartFailed("coordinator ended")

    async def close(self):
        World.closed = True


@pytest.mark.parametrize("out", [NobodyReads, io.StringIO])
async def test_the_parts_end_though_nobody_reads(out, tmp_path, monkeypatch):
    async def no_gpus():
        return 0

    monkeypatch.setattr(World, "closed", False)
    monkeypatch.setattr(play, "World", World)
    monkeypatch.setattr(play.real_driver, "gpu_count", no_gpus)
    narrator = Narrator(clock := FakeClock(), out(), colour=False)
    playing = play.run(tmp_path, clock, play.Plan(), narrator, asyncio.Event(), once=True)

    if out is NobodyReads:
        with pytest.raises((BrokenPipeError, ExceptionGroup)):
            await playing
    else:
        assert await playing == 1

    assert World.closed
