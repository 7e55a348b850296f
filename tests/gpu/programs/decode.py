"""Move memory as a decoding engine does, step after step, and tell how long steps took.

Under torch.  Answers each line, a number of seconds, with a line: steps, median, 99th and 99.9th
percentile and longest, in seconds.
"""

import json
import sys
import time

import torch

WEIGHTS = 16
BYTES = 64 << 20
weights = [torch.zeros(BYTES, dtype=torch.uint8, device="cuda") for _ in range(WEIGHTS)]


def step():
    for weight in weights:
        weight.add_(1)
    torch.cuda.synchronize()


def run(seconds):
    took = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        step()
        took.append(time.perf_counter() - began)
    return sorted(took)


run(1.0)
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    took = run(float(line))
    found = {
        "steps": len(took),
        "p50_s": took[len(took) // 2],
        "p99_s": took[len(took) * 99 // 100],
        "p999_s": took[len(took) * 999 // 1000],
        "longest_s": took[-1],
    }
    print(json.dumps(found), flush=True)
