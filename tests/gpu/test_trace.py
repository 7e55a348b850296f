"""Memory of a real torch that slowly goes to pieces, second by second, until a request fails.

The traces are for the refit of thresholds: `tests/bench/prediction*.py` reads the same columns of
the replica that runs the same workloads.
"""

from __future__ import annotations

import pytest

from gpuward.agent.fragmentation import AllocatorState, headroom_safe

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1500)]

EXPANDABLE = "expandable_segments:True"
# Name of the trace: workload, settings of the allocator.
TRACES = {
    "paged": ("paged", ""),
    "growing": ("growing", ""),
    "diffusion": ("diffusion", ""),
    "paged-expandable": ("paged", EXPANDABLE),
}
# The replica, told the same, ends after 150 to 240 steps.
STEPS = 320
# Of one trace, with the CUDA context.
GPU_MEMORY_BYTES = 17 << 30


def column(trace, name):
    place = trace["columns"].index(name)
    return [row[place] for row in trace["rows"]]


def rooms(trace):
    """Return the headroom of each row, as the agent works it out from counters."""
    expandable = "expandable_segments:True" in trace["alloc_conf"]
    counters = zip(
        column(trace, "reserved_bytes.all.current"),
        column(trace, "active_bytes.all.current"),
        column(trace, "inactive_split_bytes.all.current"),
        column(trace, "device_free_bytes"),
        strict=True,
    )
    return [headroom_safe(AllocatorState(*state, expandable), free) for *state, free in counters]


def start(card, root, allocator, name, hertz):
    workload, settings = TRACES[name]
    return card.start(
        "gpu/programs/trace.py",
        *(allocator, workload, 1, hertz, STEPS),
        PYTHONPATH=f"{root / 'tests' / 'bench'}:{root / 'native' / 'simulator'}",
        PYTORCH_ALLOC_CONF=settings,
    )


def torch_traces(card, described, root):
    """Yield name and trace of each, run side by side as far as the GPU has room: 16 GiB each."""
    hertz = 0 if card.is_quick else 1
    at_once = max(1, described["total_bytes"] // GPU_MEMORY_BYTES)
    for names in batched(list(TRACES), at_once):
        programs = {name: start(card, root, "torch", name, hertz) for name in names}
        for name, program in programs.items():
            yield name, program.read()
            program.child.wait()


def batched(names, size):
    return [names[first : first + size] for first in range(0, len(names), size)]


def test_slow_fragmentation_ends_in_an_error(card, described, record, request):
    """Headroom falls before it ends; the replica, told the same, has the same counters in each
    step and the same blocks at the end.
    """
    root = request.config.rootpath
    for name, trace in torch_traces(card, described, root):
        record("traces", trace, "torch until a request failed, a row a second", part=name)
        replica = start(card, root, "replica", name, 0).read()
        reserved, room = column(trace, "reserved_bytes.all.current"), rooms(trace)
        blocks = [size for _, *sizes in trace["segments"] for size in sizes]

        assert column(trace, "num_ooms")[-1] > 0
        assert max(reserved) <= trace["memory_bytes"]
        assert min(room[-10:]) < room[len(room) // 2] < room[0]
        assert sum(map(abs, blocks)) == reserved[-1]
        # Time and what is left of the device are the card's own.
        assert [row[2:] for row in replica["rows"]] == [row[2:] for row in trace["rows"]]
        assert sorted(replica["segments"]) == sorted(trace["segments"])
