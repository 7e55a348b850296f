"""Why a request failed: both sides of each limit; how often it is right, the bench measures."""

from __future__ import annotations

import pytest

from gpuward.agent.fragmentation_oom import verdict
from gpuward.agent.model import Event

MIB = 2**20


def event(**mib):
    values = {f"{name}_bytes": size * MIB for name, size in mib.items()}
    return Event("process.memory.oom", 1.0, "tap:1", values=values)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # In use are 1,000; with the request 1,100, which are 55 pages of 20.
        pytest.param({"reserved": 1_090, "cache_free": 90}, "fragmentation", id="just fits"),
        pytest.param({"reserved": 1_089, "cache_free": 89}, "capacity", id="a MiB short"),
        # In use are 1,001: now it takes 56 pages, so 119 and not 100.
        pytest.param({"reserved": 1_110, "cache_free": 109}, "fragmentation", id="whole pages"),
        pytest.param({"reserved": 1_109, "cache_free": 108}, "capacity", id="no whole pages"),
        pytest.param({"neighbours_releasable": 90}, "neighbour", id="the neighbours had it"),
        pytest.param({"neighbours_releasable": 89}, "capacity", id="they had too little"),
        pytest.param(
            {"reserved": 1_090, "cache_free": 90, "neighbours_releasable": 900},
            "fragmentation",
            id="what the process can mend alone comes first",
        ),
        pytest.param({"requested": 0}, None, id="nobody said how much"),
    ],
)
def test_why_a_request_of_100_failed_with_10_on_the_device(facts, expected):
    known = {"requested": 100, "device_free": 10, "reserved": 1_000, "cache_free": 0} | facts

    assert expected == verdict(event(**known))
