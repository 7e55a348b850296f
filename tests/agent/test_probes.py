"""The latency probe: its processor twin for real, its GPU twin with a CuPy that is played."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gpuward.agent.probes import latency, latency_cuda
from gpuward.agent.probes.figure import Stalled


def test_cpu_twin():
    """Every figure is a time or a ratio, and the longest is not below the median."""
    figures = {figure.name: figure.value for figure in latency.run("cpu")}

    assert set(figures) == {
        "launch_seconds",
        "launch_longest_seconds",
        "copy_seconds",
        "product_seconds",
        "longest_gap_seconds",
        "stolen_ratio",
    }
    assert all(value >= 0 for value in figures.values())
    assert figures["launch_longest_seconds"] >= figures["launch_seconds"] > 0
    assert figures["stolen_ratio"] <= 1


class PlayedCupy:
    """The few things of CuPy that the probe uses; events are done after some looks, or never."""

    def __init__(self, *, looks):
        self.launched = []
        self.allocator = "pool"
        self.looks = looks
        played = self

        class Event:
            def record(self, stream):
                self.left = played.looks

            @property
            def done(self):
                self.left -= 1
                return self.left < 0

        class Stream:
            def __init__(self, *, non_blocking):
                assert non_blocking

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

        self.cuda = SimpleNamespace(
            Event=Event,
            Stream=Stream,
            set_allocator=self._set_allocator,
            get_elapsed_time=lambda begin, end: 0.004,
        )

    def _set_allocator(self, allocator):
        self.allocator = allocator

    def RawKernel(self, source, name):  # noqa: N802 - CuPy's name
        assert f'extern "C" __global__ void {name}()' in source
        return lambda grid, block, arguments: self.launched.append((grid, block, arguments))


@pytest.fixture
def play(monkeypatch):
    def start(**how):
        played = PlayedCupy(**how)
        monkeypatch.setitem(sys.modules, "cupy", played)
        latency_cuda._prepare.cache_clear()
        latency_cuda._events.cache_clear()
        return played

    yield start
    latency_cuda._prepare.cache_clear()
    latency_cuda._events.cache_clear()


def test_gpu_twin(play):
    """32 launches of one block and a discarded one, no memory pool, event times in seconds."""
    played = play(looks=3)

    figures = {figure.name: figure.value for figure in latency.run("GPU-aaaa")}

    assert figures["launch_event_seconds"] == pytest.approx(4e-6)
    assert figures["launch_longest_seconds"] >= figures["launch_seconds"] > 0
    assert played.launched == [((1,), (1,), ())] * 33
    assert played.allocator is None


def test_gpu_that_never_finishes(play, monkeypatch):
    """A kernel that is not done by the deadline is a stall, not a wait."""
    play(looks=10**9)
    monkeypatch.setattr(latency_cuda, "DEADLINE_S", 0.01)

    with pytest.raises(Stalled):
        latency.run("GPU-aaaa")


@pytest.mark.gpu
def test_gpu_twin_on_a_gpu():
    """On hardware: an empty kernel's round trip is microseconds, the event's share less."""
    pytest.importorskip("cupy")
    figures = {figure.name: figure.value for figure in latency.run("any")}

    assert 0 < figures["launch_event_seconds"] <= figures["launch_seconds"] < 0.1
