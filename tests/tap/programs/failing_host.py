"""Run one workload in a forked child for each case of failing system calls; print what each said.

Standard input: the cases, a JSON list of ``[first failing call, how many, errno, what lies in the
tap directory]``; nothing fails with a negative first call, a string is another directory, and
without a last entry there is no tap.  Output, for each: exit status, what the child wrote, how many
calls of the tap there were, and what it left in the directory.
"""

import atexit
import ctypes
import json
import os
import struct
import sys
import tempfile
import time
import traceback
import types
import uuid
import zlib
from pathlib import Path

import torch

# All of it, so that no child has to import anything.
from gpuward.tap import admission, ticker, torch_source  # noqa: F401

CHILDREN = 8
NAME = uuid.UUID("0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a00f")

uuid.uuid4 = lambda: NAME
ticker.Ticker.__init__.__defaults__ = (0.01,)
ticker.RETRY_S = 0.01
held = []
calls = ctypes.CDLL(os.environ["LD_PRELOAD"])


class Worker:
    def execute_model(self, number):
        held.append(torch.empty((number + 1) << 20, dtype=torch.uint8, device="cuda"))
        return zlib.crc32(bytes([number]))


sys.modules["vllm.v1.worker.gpu_worker"] = types.SimpleNamespace(Worker=Worker)


def work():
    """Use CUDA, run out of memory, go on."""
    torch.cuda.init()
    said = []
    for step in range(12):
        time.sleep(0.01)
        said.append(Worker().execute_model(step))
        if step == 6:
            try:
                torch.empty(1 << 40, dtype=torch.uint8, device="cuda")
            except torch.OutOfMemoryError as error:
                said.append(str(error).partition(".")[0])
    return [*said, torch.cuda.memory_stats_as_nested_dict(0), torch.cuda.device_count()]


def fill(folder, contents):
    """Make what a case wants to lie in the tap directory; a question lies there always."""
    body = struct.pack("<8sHHI16sQ", b"GREQ\0\1\r\n", 1, 1, 0, bytes(16), 2**63)
    question = folder / f"{NAME}.req"
    question.write_bytes(body + struct.pack("<II", zlib.crc32(body), 0))
    for end, kind in contents.items():
        path = folder / f"{NAME}{end}"
        path.unlink(missing_ok=True)
        if kind == "huge":
            path.touch()
            os.truncate(path, 1 << 40)
        elif kind == "link":
            path.symlink_to("/dev/zero")
        else:
            {"folder": os.mkdir, "pipe": os.mkfifo}[kind](path)


def start(first, many, error, contents):
    """Fork a child that works; return its pid, its output and its directory."""
    folder = Path(tempfile.mkdtemp(dir=os.environ["GPUWARD_TAP_DIR"]))
    if isinstance(contents, str):
        folder = Path(contents)
    else:
        fill(folder, contents or {})
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader, folder
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.environ["GPUWARD_TAP_DIR"] = str(folder)
    if contents is None:
        os.environ["GPUWARD_TAP_ALLOW"] = ""
    status = 1
    try:
        calls.fail_calls(first, many, error)
        said = work()
        atexit._run_exitfuncs()
        made = calls.calls_made()
        calls.fail_calls(-1, 0, 0)
        print(json.dumps(said))
        print(made)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the test shall see it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(pid, reader, folder):
    with os.fdopen(reader) as output:
        said = output.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    head, _, made = said.rstrip("\n").rpartition("\n")
    left = folder.iterdir() if folder.is_dir() else ()
    return [status, head, made, sorted(path.suffix for path in left)]


cases = json.load(sys.stdin)
results = []
for begin in range(0, len(cases), CHILDREN):
    running = [start(*case) for case in cases[begin : begin + CHILDREN]]
    results += [finish(*child) for child in running]
print(json.dumps(results))
