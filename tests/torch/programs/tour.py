"""Use what a serving process uses of CUDA, and print what came back."""

import json
import sys
from pathlib import Path

import torch

MIB = 1 << 20

found = {
    "available": torch.cuda.is_available(),
    "count": torch.cuda.device_count(),
    "name": torch.cuda.get_device_name(0),
    "uuid": str(torch.cuda.get_device_properties(1).uuid),
    "capability": torch.cuda.get_device_capability(0),
    "backend": torch.cuda.get_allocator_backend(),
}

# Copies carry the bytes: to the device, between devices, back, from pinned memory, in rows.
ramp = torch.arange(5_000_000, dtype=torch.int64)
on_device = ramp.pin_memory().to("cuda:0", non_blocking=True)
moved = on_device.to("cuda:1").cpu()
rows = torch.empty(100, 200, dtype=torch.int64, device="cuda")
rows[:, :100].copy_(ramp[:10_000].reshape(100, 100))
found["copied"] = bool(torch.equal(moved, ramp))
found["pinned"] = ramp.pin_memory().is_pinned() and not ramp.is_pinned()

# Zeroing gives pages back, so 2 GiB of zeros cost no memory of this machine.
zeros = torch.zeros(2048 * MIB, dtype=torch.uint8, device="cuda")
head = torch.full((8,), 7, dtype=torch.uint8)
zeros[3 * MIB : 3 * MIB + 8].copy_(head)
found["written"] = zeros[3 * MIB - 4 : 3 * MIB + 12].cpu().tolist()
zeros.zero_()
found["resident"] = int(Path("/proc/self/statm").read_text().split()[1]) * 4096

# Streams and events.
stream = torch.cuda.Stream(priority=-1)
start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
with torch.cuda.stream(stream):
    start.record()
    torch.empty(MIB, device="cuda")
    end.record()
stream.synchronize()
torch.cuda.synchronize()
found["elapsed_ms"] = start.elapsed_time(end)
found["stream_idle"] = stream.query()

model = torch.nn.Linear(64, 64).cuda()
try:
    model(torch.empty(1, 64, device="cuda"))
    found["matmul"] = "worked"
except RuntimeError as error:
    found["matmul"] = str(error)

try:
    with torch.cuda.stream(stream):
        torch.cuda.graphs.CUDAGraph().capture_begin()
    found["graph"] = "worked"
except RuntimeError as error:
    found["graph"] = str(error)

free, total = torch.cuda.mem_get_info(0)
found |= {"free": free, "total": total}
json.dump(found, sys.stdout)
