"""Measure what the tap adds to a process that imports torch: ``tap_torch_start.py DIRECTORY KIND``.

Prints one object.  ``KIND``: ``boot`` calls the entry point, ``run`` publishes for some seconds.
Each is measured once a process, as modules are imported only once.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import torch

(ENTRY_POINT,) = entry_points(group="torch.backends")
# The tap's first publications come within three seconds.
PUBLISHES_S = 4.0


def boot(directory: str) -> dict[str, float]:
    """Call the entry point as ``import torch`` does."""
    before = _threads_and_files(directory)
    began_s = time.thread_time()
    ENTRY_POINT.load()()
    return {
        "boot": time.thread_time() - began_s,
        "threads and files": _threads_and_files(directory) - before,
    }


def run(directory: str) -> dict[str, float]:
    """Publish for a while; memory is what the process holds more than before the tap started."""
    weights = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    _serve(0.5)
    before = _resident_bytes()
    ENTRY_POINT.load()()
    _serve(PUBLISHES_S)
    after = _resident_bytes()
    del weights
    files = sum(path.stat().st_size for path in Path(directory).glob("*.tap"))
    return {"memory": after - before, "file": files}


def _serve(for_s: float) -> None:
    ends_s = time.monotonic() + for_s
    while time.monotonic() < ends_s:
        time.sleep(0.005)


def _threads_and_files(directory: str) -> int:
    places = ("/proc/self/task", "/proc/self/fd", directory)
    return sum(len(list(Path(place).iterdir())) for place in places)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(directory: str, kind: str) -> None:
    os.environ["GPUWARD_TAP_DIR"] = directory
    print(json.dumps({"boot": boot, "run": run}[kind](directory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
