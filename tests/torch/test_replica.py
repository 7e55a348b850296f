"""The replica of the allocator agrees with the real one, block for block, on the same sequence."""

from __future__ import annotations

import json
import random

import pytest

from gpuward.simulator.allocator import CachingAllocator, OutOfMemory
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
TOTAL = (8192 - 512) * MIB
CONTEXT = 520 * MIB

# Sizes on both sides of every rule: 512 B rounding, 1 MiB pool border, 10 MiB and 20 MiB segments.
SIZES = [
    lambda dice: dice.randint(1, 4096),
    lambda dice: dice.randint(4096, 1 * MIB),
    lambda dice: 1 * MIB + dice.randint(-512, 512),
    lambda dice: dice.randint(1 * MIB, 10 * MIB),
    lambda dice: 10 * MIB + dice.randint(-512, 512),
    lambda dice: dice.randint(10 * MIB, 200 * MIB),
    lambda dice: dice.randint(200 * MIB, 600 * MIB),
]


def sequence(seed: int, length: int) -> list[list]:
    """A serving process's life: it holds more and more, and frees at random."""
    dice = random.Random(seed)
    operations, held = [], []
    for key in range(length):
        if held and dice.random() < 0.38:
            operations.append(["free", held.pop(dice.randrange(len(held)))])
        elif dice.random() < 0.01:
            operations.append(["empty_cache"])
        else:
            operations.append(["malloc", key, dice.choice(SIZES)(dice)])
            held.append(key)
    return operations


def replay(operations: list[list], config: AllocatorConfig) -> dict:
    """What ``programs/replay.py`` does, by the replica."""
    allocator = CachingAllocator(FixedDevice(TOTAL, used_bytes=CONTEXT), config)
    blocks, failed, reserved = {}, [], []
    for operation, *arguments in operations:
        if operation == "malloc":
            key, size = arguments
            try:
                blocks[key] = allocator.malloc(size)
            except OutOfMemory:
                failed.append(key)
        elif operation == "free":
            if (block := blocks.pop(arguments[0], None)) is not None:
                allocator.free(block)
        else:
            allocator.empty_cache()
        reserved.append(allocator.memory_stats()["reserved_bytes"]["all"]["current"])
    return {
        "failed": failed,
        "reserved": reserved,
        "stats": allocator.memory_stats(),
        "snapshot": allocator.snapshot(),
    }


def structure(snapshot: list[dict]) -> list:
    """Segments by content, addresses from the segment's start: where it lies is the driver's."""
    return sorted(
        (
            segment["segment_type"],
            segment["is_expandable"],
            segment["total_size"],
            segment["active_size"],
            segment["requested_size"],
            [
                (
                    block["address"] - segment["address"],
                    block["size"],
                    block["state"],
                    # A free block keeps the size last asked of it; nobody reads that.
                    block["requested_size"] if block["state"] != "inactive" else 0,
                )
                for block in segment["blocks"]
            ],
        )
        for segment in snapshot
    )


@pytest.mark.parametrize(
    ("settings", "seed"),
    [
        ("", 1),
        ("", 2),
        ("expandable_segments:True", 1),
        ("expandable_segments:True", 2),
        ("max_split_size_mb:64", 3),
        ("roundup_power2_divisions:4", 4),
        ("expandable_segments:True,max_split_size_mb:64", 5),
    ],
)
def test_replica_agrees_with_torch(node, settings, seed):
    """Every counter, segment and block is the same, also after running out of memory."""
    operations = sequence(seed, length=800)

    real = node.run("replay.py", stdin=json.dumps(operations), PYTORCH_ALLOC_CONF=settings)
    replica = replay(operations, AllocatorConfig.parse(settings))

    assert real["reserved"] == replica["reserved"]
    assert real["failed"] == replica["failed"]
    assert len(real["failed"]) > 0
    common = real["stats"].keys() & replica["stats"].keys()
    assert {name: real["stats"][name] for name in common} == {
        name: replica["stats"][name] for name in common
    }
    assert structure(real["snapshot"]) == structure(replica["snapshot"])
