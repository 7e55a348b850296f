"""Measure the tap beside the torch of this interpreter: ``tap_torch_costs.py DIRECTORY EFFORT``.

Prints one object: seconds of CPU by name, a list of rounds each.  ``EFFORT``: 1 or less, the share
of the usual rounds.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import zlib

from timing import interleaved

import torch
from gpuward.tap import layout
from gpuward.tap.map_layout import ANSWERED
from gpuward.tap.memory_walk import summarise
from gpuward.tap.publisher import SnapshotSummary
from gpuward.tap.statistics import figures
from gpuward.tap.torch_source import TorchSource
from gpuward.tap.walk_budget import WalkBudget, predicted_blocks

BLOCKS = {1_000: 60, 10_000: 30, 100_000: 8}
LARGEST = 16 << 10


def tick(directory: str, rounds: int) -> dict[str, list[float]]:
    """Measure one publication of one device and the parts of it, in turn."""
    source = TorchSource(torch)
    publisher = source.open_publisher(directory, 1000)
    stats = source.stats(0)
    gpu, oom = publisher.devices[0].gpu_uuid, layout.OutOfMemory()
    found, no_walk = figures(stats, 0), layout.pack_walk(*SnapshotSummary())
    buffer = bytearray(layout.SLOT_SIZE)
    view = memoryview(buffer)[: layout.RECORD_SIZE]
    body = bytes(range(256)) * 3 + bytes(128)
    # Not the tap file: to close a second descriptor of it would drop the record lock.
    scratch = os.open(f"{directory}/scratch", os.O_RDWR | os.O_CREAT)

    def write() -> None:
        layout.pack_parts(buffer, (2, 1, 1, gpu, 0, 0), found, no_walk, (0, 0, 0, *oom))
        os.pwrite(scratch, view, layout.HEADER_SIZE)

    calls = {
        "tick": lambda: publisher.publish(0, source.stats(0)),
        "torch's statistics": lambda: source.stats(0),
        "extract": lambda: figures(stats, 0),
        "pack, crc, pwrite": write,
        "crc32": lambda: zlib.crc32(body),
    }
    taken = interleaved(calls, rounds=rounds, times=300)
    os.close(scratch)
    publisher.close()
    return taken


def walk(blocks: int, rounds: int) -> dict[str, list[float]]:
    """Measure a walk over ``blocks`` blocks, every other one free, and the summary of it."""
    source = TorchSource(torch)
    sizes = random.Random(blocks)
    held = [
        torch.empty(sizes.randrange(1, LARGEST), dtype=torch.uint8, device="cuda")
        for _ in range(blocks)
    ]
    del held[::2]
    taken: dict[str, list[float]] = {"walk": [], "summary": []}
    for _ in range(rounds + 1):
        began_s = time.thread_time()
        found = source.walk()
        walked_s = time.thread_time()
        summarise(found, 0)
        taken["summary"].append(time.thread_time() - walked_s)
        taken["walk"].append(walked_s - began_s)
    predicted = predicted_blocks(source.stats(0))
    is_allowed = WalkBudget().refusal(0, predicted) == ANSWERED
    met = {"blocks": [found.blocks], "predicted": [predicted], "allowed": [float(is_allowed)]}
    del held
    torch.cuda.empty_cache()
    return {name: values[1:] for name, values in taken.items()} | met


def main(directory: str, effort: float) -> None:
    torch.empty(1, device="cuda")
    taken = tick(directory, max(3, int(60 * effort)))
    for blocks, rounds in BLOCKS.items():
        found = walk(blocks, max(3, int(rounds * effort)))
        taken |= {f"{name} {blocks}": values for name, values in found.items()}
    print(json.dumps(taken))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
