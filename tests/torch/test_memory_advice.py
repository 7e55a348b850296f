"""What the agent advises about the memory of an unmodified torch, and whether it keeps its word."""

from __future__ import annotations

import pytest

from gpuward.agent.detectors import memory_allocator_conf, memory_fragmentation

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
# Two to a segment of 20 MiB; half of so many strand more than a GiB.
BLOCK, BLOCKS = 9 * MIB, 240


def facts_of(finding):
    return {fact.name: fact.value for fact in finding.evidence}


def reserved(server):
    return server.ask("stats")["reserved_bytes"]["all"]["current"]


@pytest.mark.parametrize(
    ("settings", "is_found"),
    [
        pytest.param("expandable_segments:True,max_split_size_mb:128", True, id="both"),
        pytest.param("expandable_segments:True", False, id="one"),
        pytest.param("max_split_size_mb:128", False, id="the other"),
    ],
)
def test_settings_that_grow_without_bound(node, tap, watcher, settings, is_found):
    """Torch takes both without a word."""
    server = node.serve(**tap, PYTORCH_ALLOC_CONF=settings)
    server.ask("malloc", "a", 100 * MIB)
    server.ask("run_python", 2.0)
    window = watcher.until(lambda window: window.keys("process_memory_expandable_segments"))

    found = list(memory_allocator_conf.detect(window))

    assert is_found is bool(found)
    if found:
        assert facts_of(found[0])["process_memory_max_split_size_bytes"] == 128 * MIB


def test_a_restart_wins_back_what_was_promised(node, tap, watcher):
    """Half of the blocks are freed, each from a segment of its own; anew they lie side by side."""
    server = node.serve(**tap)
    server.ask("malloc", "probe", MIB)
    server.ask("run_python", 0.2)
    for number in range(BLOCKS):
        server.ask("malloc", f"{number}", BLOCK)
    for number in range(0, BLOCKS, 2):
        server.ask("free", f"{number}")
    server.ask("run_python", 1.5)
    window = watcher.until(lambda window: list(memory_fragmentation.detect(window)))
    (finding,) = memory_fragmentation.detect(window)
    promised = facts_of(finding)["remedy_restart_bytes"]
    before = reserved(server)
    assert server.leave() == 0

    restarted = node.serve()
    restarted.ask("malloc", "probe", MIB)
    for number in range(1, BLOCKS, 2):
        restarted.ask("malloc", f"{number}", BLOCK)
    won = before - reserved(restarted)

    # The ends of segments, which no block fits into, are there again.
    assert 0.85 * promised < won <= promised
