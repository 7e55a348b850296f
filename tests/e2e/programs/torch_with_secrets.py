"""A serving process in trouble: half of its memory in pieces; then a request fails for it.

Runs under a name and with arguments that hold a secret.  `TITLE` is what it calls itself; it is as
the test wants it when the file `READY` is there, and runs out of memory once `TROUBLE` is.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

import torch

MIB = 1 << 20
PR_SET_NAME = 15

ctypes.CDLL(None).prctl(PR_SET_NAME, os.environ["TITLE"].encode(), 0, 0, 0)
# Two in each segment of 20 MiB.
kept = [torch.empty(9 * MIB, dtype=torch.uint8, device="cuda") for _ in range(300)]
del kept[::2]
Path(os.environ["READY"]).touch()
trouble = Path(os.environ["TROUBLE"])
while True:  # Python on the main thread, as a serving loop runs
    time.sleep(0.005)
    if trouble.exists():
        trouble.unlink()
        try:
            torch.empty(2048 * MIB, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError as error:
            print(sys.argv, error, flush=True)
