"""Fragment the caching allocator of the first GPU within a fraction of its memory, then run out.

Prints one JSON object a line: after each phase what torch itself says.  Arguments: the fraction of
the card's memory to use, seconds to stay after each phase so that the tap publishes.
"""

import gc
import json
import sys
import time

import torch

MIB = 1 << 20


def say(phase, **more):
    """Print what torch knows, once the tap has had time to publish it."""
    until = time.monotonic() + STAY_S
    while time.monotonic() < until:  # Python on the main thread: the tap's way in
        sum(range(1000))
    stats = torch.cuda.memory_stats()
    kept = {name: stats[name] for name in sorted(stats) if name.endswith((".all.current", "_ooms"))}
    retries = stats["num_alloc_retries"]
    print(json.dumps({"phase": phase, **kept, "num_alloc_retries": retries, **more}), flush=True)


def main(fraction):
    device = torch.device("cuda:0")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(fraction, 0)
    say("started", device=torch.cuda.get_device_name(0), torch=torch.__version__)
    blocks = []
    try:
        while True:
            blocks.append(torch.empty(9 * MIB, dtype=torch.uint8, device=device))
    except torch.cuda.OutOfMemoryError:
        say("full", blocks=len(blocks))
    del blocks[::2]
    gc.collect()
    say("holed")
    wanted = int(total * fraction / 4)
    try:
        torch.empty(wanted, dtype=torch.uint8, device=device)
    except torch.cuda.OutOfMemoryError:
        say("failed", wanted=wanted)
    sizes = [(s["total_size"], s["active_size"]) for s in torch.cuda.memory_snapshot()]
    print(json.dumps({"phase": "snapshot", "segments": len(sizes), "first": sizes[:8]}), flush=True)
    sys.stdin.read()


STAY_S = float(sys.argv[2])
main(float(sys.argv[1]))
