"""The replica of the allocator agrees with the real one: addresses, blocks, counters, failures.

Random sequences run in torch and in the replica, one process of torch to a configuration; what a
sequence leaves behind the next one finds.  Each ``empty_cache`` in them also says what memory was
releasable, and holds that against what the agent makes of the counters and blocks just before.

``GPUWARD_REPLICA_SEQUENCES`` sets how many sequences a configuration gets.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import groupby

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gpuward.agent.fragmentation import AllocatorState
from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.allocator_replay import Replay
from gpuward.simulator.allocator_segments import FIRST_ADDRESS
from gpuward.tap.memory_walk import Walk, large_page, summarise

SEQUENCES = int(os.environ.get("GPUWARD_REPLICA_SEQUENCES", "30"))
pytestmark = [
    pytest.mark.torch,
    pytest.mark.simulator,
    pytest.mark.timeout(300 + SEQUENCES),
]

# Every so many sequences torch starts anew: addresses must not run out.
SEQUENCES_OF_A_PROCESS = 300
MIB = 1 << 20
CONTEXT = 520 * MIB
# Little, so that short sequences run out of it.
TOTAL = CONTEXT + 192 * MIB
# Where the simulated device's memory begins.
FIRST_DEVICE_ADDRESS = 0x2000_0000_0000
DRIVER_BYTES = 512 * MIB

# With one stream that uses others' blocks, the order in which they come back is theirs.
ONE_USER = (3,)
# With several, it is that of a hash table, and it shows in what was ever split, not in the blocks.
SEVERAL_USERS = (1, 2, 3)
NOT_CLAIMED = ("inactive_split", "inactive_split_bytes")

CONFIGURATIONS = [
    pytest.param("", ONE_USER, id="defaults"),
    pytest.param("", SEVERAL_USERS, id="blocks that several streams use"),
    pytest.param("expandable_segments:True", ONE_USER, id="expandable segments"),
    pytest.param("max_split_size_mb:64", ONE_USER, id="max split"),
    pytest.param(
        "max_split_size_mb:32,max_non_split_rounding_mb:24", ONE_USER, id="max split, rounding"
    ),
    pytest.param(
        "expandable_segments:True,max_split_size_mb:64", ONE_USER, id="expandable, max split"
    ),
    pytest.param("roundup_power2_divisions:8", ONE_USER, id="divisions"),
    pytest.param(
        "roundup_power2_divisions:[1:2,4:8,32:4,>:1]", ONE_USER, id="divisions by size of request"
    ),
    pytest.param("large_segment_size_mb:32", ONE_USER, id="larger segments"),
    pytest.param(
        "expandable_segments:True,large_segment_size_mb:12",
        ONE_USER,
        id="expandable, smaller pages",
    ),
    pytest.param("per_process_memory_fraction:0.2", ONE_USER, id="memory fraction"),
    pytest.param(
        "garbage_collection_threshold:0.6,per_process_memory_fraction:0.25",
        ONE_USER,
        id="garbage collection",
    ),
    pytest.param(
        "expandable_segments:True,per_process_memory_fraction:0.2",
        ONE_USER,
        id="expandable, memory fraction",
    ),
]

# Sizes on both sides of every rule: 512 B rounding, 1 MiB pool border, 10 MiB and 20 MiB segments.
SIZE = st.one_of(
    st.integers(1, 4096),
    st.integers(4096, MIB),
    st.integers(MIB - 512, MIB + 512),
    st.integers(MIB, 10 * MIB),
    st.integers(10 * MIB - 512, 10 * MIB + 512),
    st.integers(10 * MIB, 40 * MIB),
    st.integers(30 * MIB, 150 * MIB),
)
ANY = st.integers(0, 1 << 16)
# How often each step is taken, of their sum.
STEPS = {
    "malloc": 12,
    "free": 6,
    "record_stream": 2,
    "keep_busy": 1,
    "synchronize": 1,
    "empty_cache": 1,
    "set_memory_fraction": 1,
    "new_pool": 1,
    "new_graph": 1,
    "enter": 2,
    "leave": 2,
    "drop": 1,
}
NAMES = [name for name, times in STEPS.items() for _ in range(times)]
# A name, then what some steps need: a size, a choice of what is there, a stream.
STEP = st.tuples(st.sampled_from(NAMES), SIZE, ANY, ANY)


class Sequence:
    """Steps made into operations that make sense: keys that are held, pools that are there."""

    def __init__(self, users, *, drop_pools_in_use):
        self.operations = []
        self._users = users
        self._drop_pools_in_use = drop_pools_in_use
        self._held = {}  # key: the pool that it came from
        self._pools = []
        self._entered = []

    @classmethod
    def of(cls, steps, users, **options):
        sequence = cls(users, **options)
        for name, *arguments in steps:
            getattr(sequence, name)(*arguments)
        sequence.end()
        return sequence.operations

    def _add(self, *operation):
        self.operations.append(operation)

    def malloc(self, size, _, stream):
        key = f"block {len(self.operations)}"
        self._held[key] = self._entered[-1] if self._entered else None
        self._add("malloc", key, size, max(0, stream % 5 - 2))

    def free(self, _, choice, __):
        if self._held:
            key = list(self._held)[choice % len(self._held)]
            del self._held[key]
            self._add("free", key)

    def record_stream(self, _, choice, user):
        if self._held:
            key = list(self._held)[choice % len(self._held)]
            self._add("record_stream", key, self._users[user % len(self._users)])

    def keep_busy(self, _, choice, __):
        self._add("keep_busy", choice % 4)

    def synchronize(self, _, choice, __):
        self._add("synchronize", choice % 4)

    def empty_cache(self, *_):
        self._add("empty_cache")

    def set_memory_fraction(self, _, choice, __):
        self._add("set_memory_fraction", (0.15, 0.2, 1.0)[choice % 3])

    def new_pool(self, *_):
        self._pools.append(f"pool {len(self.operations)}")
        self._add("new_pool", self._pools[-1])

    def new_graph(self, *_):
        self._pools.append(f"graph {len(self.operations)}")
        self._add("new_graph", self._pools[-1])

    def enter(self, _, choice, __):
        outside = [pool for pool in self._pools if pool not in self._entered]
        if outside and len(self._entered) < 2:
            self._entered.append(outside[choice % len(outside)])
            self._add("enter", self._entered[-1])

    def leave(self, *_):
        if self._entered:
            self._add("leave", self._entered.pop())

    def drop(self, _, choice, __):
        outside = [pool for pool in self._pools if pool not in self._entered]
        if not outside:
            return
        pool = outside[choice % len(outside)]
        if not self._drop_pools_in_use:
            for key in [key for key, home in self._held.items() if home == pool]:
                del self._held[key]
                self._add("free", key)
        self._pools.remove(pool)
        self._add("drop", pool)

    def end(self):
        while self._entered:
            self.leave()
        while self._held:
            self.free(0, 0, 0)
        while self._pools:
            self.drop(0, 0, 0)
        self.empty_cache()


class Pair:
    """Torch and the replica, in the same state."""

    def __init__(self, node, settings):
        for child in node.started:
            child.kill()  # its memory is needed
            child.wait()
        row = node.state.row.gpus[0]
        row.memory_total_bytes, row.memory_reserved_bytes = TOTAL + DRIVER_BYTES, DRIVER_BYTES
        self.torch = node.start(
            "replay.py", PYTORCH_ALLOC_CONF=settings, TORCH_CPP_LOG_LEVEL="ERROR"
        )
        device = FixedDevice(TOTAL, used_bytes=CONTEXT)
        self.replica = Replay(CachingAllocator(device, AllocatorConfig.parse(settings)))

    def play(self, operations):
        self.torch.stdin.write(json.dumps(operations) + "\n")
        self.torch.stdin.flush()
        line = self.torch.stdout.readline()
        assert line, f"torch ended: {self.torch.wait()}\n{self.torch.stderr.read()}"
        # Through JSON as well: lists for tuples, text for keys.
        return json.loads(line), json.loads(json.dumps(self.replica.play(operations)))


def shape(snapshot, first_address):
    """All that a snapshot says, addresses from the first; streams have other names in torch."""
    for segment in snapshot:
        segment["address"] -= first_address
        for block in segment["blocks"]:
            block["address"] -= first_address
        del segment["stream"]
    return snapshot


def claimed(stats, users):
    if users is ONE_USER:
        return stats
    levels = {
        name: {pool: array["current"] for pool, array in stats[name].items()}
        for name in NOT_CLAIMED
    }
    return {**stats, **levels}


def step_of(answer, first_address):
    """What a step returned, with addresses from the first, and the counters behind it."""
    returned, *counters = answer
    if isinstance(returned, dict):
        returned = {
            "returned": returned["returned"],
            "snapshot": shape(returned["snapshot"], first_address),
        }
    elif isinstance(returned, int):
        returned -= first_address
    return [returned, *counters]


def releasable(snapshot, configuration):
    walk = Walk(snapshot, 0, 0, 0)
    return summarise(walk, 0, large_page(configuration)).summary.releasable_bytes


def once_settled(snapshot, dropped):
    """The blocks as ``empty_cache`` sees them: it waits for pending frees, dropped pools go too."""
    return [
        {
            **segment,
            "segment_pool_id": [0, 0]
            if segment["segment_pool_id"] in dropped
            else segment["segment_pool_id"],
            "blocks": list(settled_blocks(segment["blocks"])),
        }
        for segment in snapshot
    ]


def settled_blocks(blocks):
    for is_used, adjacent in groupby(blocks, lambda block: block["state"] == "active_allocated"):
        run = list(adjacent)
        if is_used:
            yield from run
        else:
            size = sum(block["size"] for block in run)
            yield {**run[0], "size": size, "state": "inactive"}


def check_releasable(flush, dropped, configuration):
    """Counters and blocks just before foretold the bytes that the device got back."""
    stats, snapshot, returned = flush["stats"], flush["snapshot"], flush["returned"]
    reserved, active, inactive_split, allocated = (
        stats[f"{name}_bytes"]["all"]["current"]
        for name in ("reserved", "active", "inactive_split", "allocated")
    )
    private = [segment for segment in snapshot if segment["segment_pool_id"] != [0, 0]]
    orphaned = [segment for segment in private if segment["segment_pool_id"] in dropped]
    is_pending = active > allocated
    foretold = releasable(snapshot, configuration)
    assert returned == releasable(once_settled(snapshot, dropped), configuration)
    assert foretold <= returned
    if not orphaned:
        assert foretold == returned
    if "expandable" not in configuration:
        kept = sum(segment["total_size"] for segment in private)
        counted = AllocatorState(reserved, active, inactive_split, private_reserved=kept)
        assert counted.releasable <= returned
    if not is_pending and "expandable" not in configuration:
        # Counters do not tell private pools from the rest: what those keep counts as well.
        kept = sum(
            segment["total_size"]
            for segment in private
            if segment not in orphaned and not segment["active_size"]
        )
        assert AllocatorState(reserved, active, inactive_split).releasable == returned + kept
    return {
        "flushes": 1,
        "flushes with private pools": bool(private),
        "flushes with dropped pools": bool(orphaned),
        "flushes with pending frees": is_pending,
        "flushes foretold to the byte": foretold == returned,
        "bytes returned": returned,
    }


@pytest.mark.parametrize(("configuration", "users"), CONFIGURATIONS)
def test_replica_agrees_with_torch(node, configuration, users):
    """Every address, counter, segment and block is the same, also after running out of memory."""
    expandable = "expandable" in configuration
    counts = Counter()
    pairs = []

    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(st.lists(STEP, min_size=20, max_size=100))
    def agree(steps):
        # With expandable segments torch may forget a dropped pool that has tensors, and crash.
        operations = Sequence.of(steps, users, drop_pools_in_use=not expandable)
        if not pairs or counts["sequences"] % SEQUENCES_OF_A_PROCESS == 0:
            pairs[:] = [Pair(node, configuration)]
        pair = pairs.pop()  # one that disagrees is not used again
        real, replica = pair.play(operations)
        pool_ids, dropped = {}, []
        for (name, *arguments), answer, again in zip(
            operations, real["steps"], replica["steps"], strict=True
        ):
            if name in ("new_pool", "new_graph"):
                pool_ids[arguments[0]] = answer[0]
            elif name == "drop":
                dropped.append(pool_ids[arguments[0]])
            elif name == "empty_cache":
                counts.update(check_releasable(answer[0], dropped, configuration))
            expected = step_of(answer, FIRST_DEVICE_ADDRESS)
            assert expected == step_of(again, FIRST_ADDRESS), (name, *arguments)
        assert claimed(real["stats"], users) == claimed(replica["stats"], users)
        assert shape(real["snapshot"], FIRST_DEVICE_ADDRESS) == shape(
            replica["snapshot"], FIRST_ADDRESS
        )
        pairs.append(pair)
        counts.update(sequences=1, operations=len(operations))
        counts.update(name for name, *_ in operations)
        counts["retries"], counts["ooms"] = real["steps"][-1][1:3]

    agree()
    print(f"{configuration or 'defaults'}: {dict(sorted(counts.items()))}")
    assert counts["ooms"] > 0
    assert counts["empty_cache"] > 0
