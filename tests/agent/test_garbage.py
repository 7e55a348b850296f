"""The rounds of the collector in a process that would come to none by itself."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from gpuward.agent.garbage import Garbage


class Node:
    """Part of a cycle."""

    def __init__(self):
        self.self = self


@pytest.fixture(autouse=True)
def no_rounds_but_ours():
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def dropped():
    return weakref.ref(Node())


@pytest.mark.parametrize(
    ("at_s", "is_kept"),
    [
        pytest.param(159.9, True, id="before a minute is over"),
        pytest.param(160.0, False, id="after a minute"),
    ],
)
def test_a_cycle_goes_within_a_minute(at_s, is_kept):
    garbage, node = Garbage(100.0), dropped()

    garbage.collect_if_due(at_s)

    assert (node() is not None) is is_kept


def test_it_goes_on():
    """The next round is a minute after the last, and finds what came since."""
    garbage = Garbage(0.0)
    garbage.collect_if_due(60.0)
    node = dropped()

    garbage.collect_if_due(119.9)
    assert node() is not None

    garbage.collect_if_due(120.0)
    assert node() is None


def test_what_the_process_began_with_is_walked_once():
    """All that lives at the first round is left alone from then on; what comes later is not."""
    garbage = Garbage(0.0)
    garbage.collect_if_due(60.0)
    frozen = gc.get_freeze_count()
    kept = Node()
    garbage.collect_if_due(120.0)

    assert frozen > 1_000
    assert gc.get_freeze_count() <= frozen
    assert kept in gc.get_objects()


async def test_on_an_event_loop(clock):
    """A round a minute; what was frozen before it began stays so, and nothing else is."""
    frozen = gc.get_freeze_count()
    rounds = asyncio.create_task(Garbage(clock.mono_s(), is_settled=True).collect_on(clock))
    node = dropped()
    await clock.advance(59.0)
    is_kept = node() is not None
    await clock.advance(1.0)
    first, node = node(), dropped()
    await clock.advance(60.0)
    rounds.cancel()

    assert is_kept
    assert (first, node()) == (None, None)
    assert gc.get_freeze_count() == frozen
