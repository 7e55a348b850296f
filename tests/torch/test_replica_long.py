"""The replica agrees with torch over a long life: hundreds of live blocks, never cleaned up."""

from __future__ import annotations

import json
import random

import pytest

from gpuward.simulator.allocator import CachingAllocator
from gpuward.simulator.allocator_config import AllocatorConfig
from gpuward.simulator.allocator_device import FixedDevice
from gpuward.simulator.allocator_replay import Replay
from gpuward.simulator.allocator_segments import FIRST_ADDRESS

pytestmark = [pytest.mark.torch, pytest.mark.simulator]

MIB = 1 << 20
TOTAL = (8192 - 512) * MIB
CONTEXT = 520 * MIB
FIRST_DEVICE_ADDRESS = 0x2000_0000_0000

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


def from_the_first(answer, first_address):
    """Make every address an offset, and streams the same: there is one."""
    if isinstance(answer, dict):
        moved = {key: from_the_first(value, first_address) for key, value in answer.items()}
        moved.pop("stream", None)
        return moved
    if isinstance(answer, list):
        return [from_the_first(value, first_address) for value in answer]
    return answer - first_address if isinstance(answer, int) and answer >= first_address else answer


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
    """Every answer on the way, and every counter, segment and block at the end, is the same."""
    operations = sequence(seed, length=800)

    real = node.run(
        "replay.py",
        stdin=json.dumps(operations),
        PYTORCH_ALLOC_CONF=settings,
        TORCH_CPP_LOG_LEVEL="ERROR",
    )
    device = FixedDevice(TOTAL, used_bytes=CONTEXT)
    replay = Replay(CachingAllocator(device, AllocatorConfig.parse(settings)))
    replica = json.loads(json.dumps(replay.play(operations)))

    assert from_the_first(real, FIRST_DEVICE_ADDRESS) == from_the_first(replica, FIRST_ADDRESS)
    assert real["stats"]["num_ooms"] > 0
