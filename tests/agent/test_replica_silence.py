"""An engine that nobody hears: from when it is missed, by what is known of its process."""

from __future__ import annotations

from math import inf

import pytest

from gpuward.agent.model import Driver, Gpu, Process, Sample, SeriesKey
from gpuward.agent.replica_silence import silence_of
from gpuward.agent.window import Window

CARD = Gpu("GPU-1", 0, "H100", "1B")
HOUR_S = 3_600.0
HERE = ("chat", "127.0.0.1:8000")


def window(lasts_s, *processes, listens=0.0, now_s=HOUR_S, gpus=(CARD,), driver=None):
    samples = [
        Sample(SeriesKey(signal, service=HERE[0], endpoint=HERE[1]), now_s, value)
        for signal, value in (("replica_silent_seconds", lasts_s), ("replica_listens", listens))
        if lasts_s is not None
    ]
    return Window.of(samples, now_s=now_s, gpus=gpus, processes=processes, driver=driver)


def process(service="", endpoint="", unit=""):
    return Process("p", 7, 1, ("GPU-1",), unit=unit, service=service, endpoint=endpoint)


UNPLACED = process()
ITSELF = process(*HERE)
ANOTHER = process("chat", "127.0.0.1:8001")
WORKER = process(unit="gpuward-probe@GPU-1.service")


@pytest.mark.parametrize(
    ("about", "patience_s"),
    [
        pytest.param({}, 240.0, id="nobody is there"),
        pytest.param({"processes": (ANOTHER,)}, 240.0, id="another replica is not it"),
        pytest.param({"processes": (process("other", "x:1"),)}, 240.0, id="nor another service"),
        pytest.param({"processes": (WORKER,)}, 240.0, id="nor our own worker"),
        pytest.param({"processes": (UNPLACED,)}, 900.0, id="a process that may be it"),
        pytest.param({"processes": (ITSELF,)}, 900.0, id="its own process"),
        pytest.param({"listens": 1.0}, 900.0, id="connections are accepted"),
        pytest.param({"gpus": ()}, 900.0, id="no GPU to see a process on"),
        pytest.param({"driver": Driver(up=False)}, 900.0, id="a driver that does not answer"),
        pytest.param({"now_s": 899.0}, 900.0, id="a node that has just booted"),
        pytest.param({"now_s": 900.0}, 240.0, id="one that is up for a quarter of an hour"),
    ],
)
def test_patience(about, patience_s):
    """A start may take a quarter of an hour; where no process is, four minutes tell."""
    settings = dict(about)
    processes = settings.pop("processes", ())

    assert silence_of(window(patience_s - 1, *processes, **settings), *HERE) is None
    assert silence_of(window(patience_s, *processes, **settings), *HERE) is not None


def test_one_that_answers():
    assert silence_of(window(None), *HERE) is None


@pytest.mark.parametrize(
    ("processes", "listens", "certain_after_s", "words"),
    [
        pytest.param((), 0.0, 900.0, "nobody listens there, and no process", id="nobody"),
        pytest.param((UNPLACED,), 0.0, inf, "nobody listens there, longer than", id="a process"),
        pytest.param((), 1.0, inf, "it does not answer, longer than", id="it hangs"),
    ],
)
def test_what_is_certain(processes, listens, certain_after_s, words):
    """Of a process that is there its page alone is no proof: that may be somewhere else."""
    found = silence_of(window(2_000.0, *processes, listens=listens), *HERE)

    assert found.certain_after_s == certain_after_s
    assert found.words.startswith(words)
