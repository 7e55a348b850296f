"""What an allocator of a GPU cannot be is told from what it can be."""

from __future__ import annotations

import pytest

from gpuward.memory_map.model import Block, BlockState, Segment
from gpuward.memory_map.plausible import is_plausible

LIVE, FREE = BlockState.ALLOCATED, BlockState.FREE
TOP = 2**48


def segment(*blocks, at=4096, size=100):
    return Segment(at, size, tuple(Block(*block) for block in blocks))


@pytest.mark.parametrize(
    ("segments", "is_possible"),
    [
        pytest.param([], True, id="nothing"),
        pytest.param([segment()], True, id="no blocks"),
        pytest.param([segment((0, 60, 60, LIVE), (60, 40, 0, FREE))], True, id="full"),
        pytest.param([segment((10, 20, 5, LIVE), (50, 50, 0, FREE))], True, id="gaps"),
        pytest.param([segment(at=4196), segment()], True, id="neighbours in any order"),
        pytest.param([segment(at=4195), segment()], False, id="segments that overlap"),
        pytest.param([segment(size=0)], False, id="no size"),
        pytest.param([segment(size=-1)], False, id="a negative size"),
        pytest.param([segment(at=-1)], False, id="a negative address"),
        pytest.param([segment(at=TOP - 100)], True, id="up to the top"),
        pytest.param([segment(at=TOP - 99)], False, id="beyond the top"),
        pytest.param([segment((0, 101, 0, FREE))], False, id="a block beyond its segment"),
        pytest.param([segment((0, 60, 0, FREE), (59, 9, 0, FREE))], False, id="blocks overlap"),
        pytest.param([segment((50, 9, 0, FREE), (0, 9, 0, FREE))], False, id="blocks in disorder"),
        pytest.param([segment((0, 0, 0, FREE))], False, id="a block without size"),
        pytest.param([segment((-1, 9, 0, FREE))], False, id="a negative offset"),
        pytest.param([segment((0, 9, 9, LIVE))], True, id="all of it asked for"),
        pytest.param([segment((0, 9, 10, LIVE))], False, id="more asked for than there is"),
        pytest.param([segment((0, 9, -1, LIVE))], False, id="less asked for than nothing"),
    ],
)
def test_is_plausible(segments, is_possible):
    assert is_possible == is_plausible(segments)
