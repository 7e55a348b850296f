"""Replay a sequence of allocations with torch's allocator and print its counters and blocks.

Standard input: a JSON list of ``["malloc", key, size]``, ``["free", key]`` and ``["empty_cache"]``.
A malloc that runs out of memory is listed, and a later free of its key is skipped.
"""

import json
import sys

import torch

tensors = {}
failed = []
reserved = []  # after each operation
torch.cuda.init()
for operation, *arguments in json.load(sys.stdin):
    if operation == "malloc":
        key, size = arguments
        try:
            tensors[key] = torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            failed.append(key)
    elif operation == "free":
        tensors.pop(arguments[0], None)
    else:
        torch.cuda.empty_cache()
    reserved.append(torch.cuda.memory_reserved())

answer = {
    "failed": failed,
    "reserved": reserved,
    "stats": torch.cuda.memory_stats_as_nested_dict(),
    "snapshot": torch.cuda.memory_snapshot(),
}
json.dump(answer, sys.stdout)
