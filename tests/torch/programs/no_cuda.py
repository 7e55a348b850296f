"""Try to use a CUDA that is not to be had, and print what comes of it."""

import json
import sys
import threading
import time

import torch

found = {"available": torch.cuda.is_available(), "count": torch.cuda.device_count()}
try:
    torch.cuda.init()
    found["init"] = "worked"
except (RuntimeError, AssertionError) as error:
    found["init"] = str(error)
try:
    torch.empty(1, device="cuda")
except (RuntimeError, AssertionError) as error:
    found["empty"] = str(error)
found["sum"] = torch.arange(10).sum().item()
time.sleep(0.3)
found["threads"] = [thread.name for thread in threading.enumerate()]
json.dump(found, sys.stdout)
