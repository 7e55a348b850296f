"""From a real torch through its tap, the agent and the command to a map that adds up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from gpuward.agent import map_command
from gpuward.agent.map_command import Choice, NoMapError
from gpuward.memory_map.model import groups, totals

# The agent starts, and the tap looks for questions once a second.
pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
GPU = "GPU-00000000-aaaa-bbbb-cccc-ddddeeeeffff"


def wait_for_tap(agent, server):
    """Keep torch busy until the agent knows its tap, and has read of its allocator."""
    for _ in range(100):
        server.ask("run_python", 0.2)
        node = agent.snapshot()
        signals = {value.series.signal for value in node.values}
        if "process_memory_reserved_bytes" in signals and list(map_command.candidates(node)):
            return
    raise AssertionError(f"no tap in {node.processes}")


def fetch(agent, server):
    """Return the map that the agent gets of torch, which is busy meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(map_command.fetch, agent.address, Choice())
        while not asked.done():
            server.ask("run_python", 0.2)
        return asked.result()


def test_the_map_adds_up_to_what_torch_counts(node, agent, tap):
    """To the byte, in every pool; what is called releasable is what empty_cache() gives back."""
    server = node.serve(**tap)
    for name in range(12):
        server.ask("malloc", f"{name}", (3 + 17 * name) * MIB // 3)
    for name in range(40):
        server.ask("malloc", f"small {name}", 300_000)
    for name in range(0, 12, 2):
        server.ask("free", f"{name}")
    for name in range(1, 40):
        server.ask("free", f"small {name}")
    wait_for_tap(agent, server)
    memory_map = fetch(agent, server)
    stats = server.ask("stats")
    sums = totals(memory_map.segments)

    assert (memory_map.pid, memory_map.gpu) == (server.process.pid, GPU)
    for family, size in (
        ("reserved", sums.reserved),
        ("allocated", sums.allocated),
        ("requested", sums.requested),
        ("active", sums.allocated + sums.pending),
    ):
        assert size == stats[f"{family}_bytes"]["all"]["current"], family
    for group in groups(memory_map.segments):
        held = stats["reserved_bytes"][f"{group.pool}_pool"]["current"]
        assert totals(group.segments).reserved == held
    assert sums.stranded == sums.reserved - sums.allocated - sums.releasable > 0
    server.ask("empty_cache")
    left = server.ask("stats")["reserved_bytes"]["all"]["current"]
    assert sums.reserved - left == sums.releasable


def test_a_second_question_is_refused(node, agent, tap):
    server = node.serve(**tap)
    server.ask("malloc", "a", MIB)
    wait_for_tap(agent, server)
    fetch(agent, server)

    with pytest.raises(NoMapError, match=r"^busy: .*; ask again in [0-9]+ s$"):
        fetch(agent, server)
