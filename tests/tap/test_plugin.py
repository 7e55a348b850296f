"""The tap inside real processes with a stand-in for torch: it publishes, and breaks nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from gpuward.agent.samplers.tap_record import unpack_record
from gpuward.tap.layout import unpack_header
from gpuward.tap.version import VERSION

TAP = Path(__file__).parents[2] / "agent" / "tap"


WAIT_FOR_RECORD = """
import os, sys, time, torch
def files():
    folder = os.environ["GPUWARD_TAP_DIR"]
    return [os.path.join(folder, n) for n in os.listdir(folder) if n.endswith(".tap")]
def published():
    return [f for f in files() if any(open(f, "rb").read()[4096:6144])]
def wait_for(condition, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing was published"
        time.sleep(0.02)
"""

USE_CUDA = WAIT_FOR_RECORD + "\ntorch.cuda.init(); wait_for(published)\n"


def _records(path):
    raw = path.read_bytes()
    header = unpack_header(raw)
    slots = [header.device_offset(0), header.device_offset(0) + header.slot_size]
    records = [record for slot in slots if (record := unpack_record(raw, slot))]
    return header, sorted(records, key=lambda record: record.seq)


def test_a_process_that_uses_cuda_publishes(host, python):
    """On every CPython at hand; the file is gone when the process leaves cleanly."""
    process = host.start(USE_CUDA + 'print("ready", flush=True); sys.stdin.read()', python=python)
    with process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        (path,) = host.files
        header, records = _records(path)
        process.stdin.close()

    assert process.returncode == 0
    assert (header.ns_pid, header.torch_version, header.flags) == (process.pid, "2.14.1+fake", 1)
    assert header.device_count == 2
    assert records[-1].all_pools.reserved_bytes == 2**30
    assert records[-1].gpu_uuid.hex() == "0b9c5b459f5d4f0c8d0f3c5fc1a3a001"
    assert path.stat().st_mode & 0o777 == 0o640 if path.exists() else not host.files


def test_a_device_that_the_process_does_not_use_has_no_record(host):
    _, out, _ = host.run(USE_CUDA + 'print(any(open(files()[0], "rb").read()[14336:16384]))')

    assert out == "False\n"


def test_nothing_starts_before_cuda(host):
    """No thread, no file, and next to no module, in a process that only imports torch."""
    script = WAIT_FOR_RECORD + (
        "import threading; time.sleep(0.1)\n"
        "assert {m for m in sys.modules if m.startswith('gpuward.tap.')} == "
        "{'gpuward.tap.plugin', 'gpuward.tap.own_allocators'}\n"
        "print(threading.active_count(), files())"
    )

    assert host.run(script) == (0, "1 []\n", "")


def test_a_cuda_that_fails_to_initialise_is_not_initialised_by_the_tap(host):
    script = (
        WAIT_FOR_RECORD
        + """
def fail(): raise RuntimeError("no driver")
torch.cuda._lazy_call(fail)
try: torch.cuda.init()
except RuntimeError: pass
torch.cuda.get_device_properties = lambda device: print("asked")
time.sleep(0.5)
print(torch.cuda.is_initialized(), files())
"""
    )

    assert host.run(script) == (0, "False []\n", "")


def test_the_main_thread_is_asked_where_it_allocates(host):
    _, out, _ = host.run(USE_CUDA + "print(set(torch.cuda.asked_by))")

    assert out == "{'MainThread'}\n"


def test_a_forked_child_leaves_the_file_alone_and_may_have_its_own(host):
    script = (
        USE_CUDA
        + """
child = os.fork()
if not child:
    torch.cuda.memory_stats_as_nested_dict = None
    time.sleep(1.5)
    os._exit(len(files()) - 1)
_, status = os.waitpid(child, 0)
print(status, len(files()))
"""
    )

    status, out, _ = host.run(script)
    assert (status, out) == (0, "0 1\n")


def test_cuda_initialised_in_a_forked_child_publishes_there(host):
    script = (
        WAIT_FOR_RECORD
        + """
child = os.fork()
if not child:
    torch.cuda.init(); wait_for(published); os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )

    assert host.run(script) == (0, "7\n", "")


# What a process does with CUDA must not depend on the tap.
WORK = """
import time, torch
torch.cuda.init()
time.sleep(1.3)
print("work done", torch.cuda.device_count())
"""


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"GPUWARD_TAP_DISABLE": "1"}, id="disabled"),
        pytest.param({"GPUWARD_TAP_DIR": "/nonexistent/tap"}, id="no directory"),
        pytest.param({"GPUWARD_TAP_DIR": "/proc"}, id="directory that takes no files"),
        pytest.param({"GPUWARD_TAP_DIR": "/dev/null"}, id="no directory but a device"),
        pytest.param({"GPUWARD_TAP_DIR": "relative/\udcff"}, id="a name that is no text"),
    ],
)
def test_the_host_does_not_notice_a_tap_that_cannot_work(host, env):
    assert host.run(WORK, **env) == (0, "work done 2\n", "")
    assert host.files == []


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(
            "import resource, torch; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))", id="size"
        ),
        pytest.param(
            "import resource, torch; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", id="fd"
        ),
        pytest.param(
            "import os\ndef full(*_): raise OSError(28, 'full')\nos.posix_fallocate = full",
            id="full",
        ),
        pytest.param("import sys; sys.modules['fcntl'] = None", id="no record locks"),
        pytest.param("import sys; sys.modules['gpuward.tap.ticker'] = None", id="module missing"),
        pytest.param(
            'import threading\ndef none(*_): raise RuntimeError("can\'t start new thread")\n'
            "threading.Thread.start = none",
            id="no thread",
        ),
    ],
)
def test_the_host_does_not_notice_trouble(host, trouble):
    assert host.run(f"{trouble}\n{WORK}") == (0, "work done 2\n", "")
    assert host.files == []


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param("torch.cuda._lazy_call = None", id="no hook"),
        pytest.param("del torch.cuda.memory.get_allocator_backend", id="no backend name"),
        pytest.param("torch.cuda.get_device_properties = None", id="no properties"),
        pytest.param("torch.cuda.Properties.__init__ = lambda s, u: None", id="no uuid"),
        pytest.param("torch.cuda.Properties.__str__ = 1", id="odd uuid"),
        pytest.param("del torch._C._cuda_attach_out_of_memory_observer", id="no observer"),
        pytest.param("torch._C._cuda_attach_out_of_memory_observer = 1", id="odd observer"),
    ],
)
def test_the_host_does_not_notice_another_torch(host, trouble):
    script = f"import torch\n{trouble}\n{WORK}"

    assert host.run(script) == (0, "work done 2\n", "")
    assert host.files == []


@pytest.mark.parametrize(
    "modules",
    [
        pytest.param("", id="no torch"),
        pytest.param("sys.modules['torch'] = None", id="torch is blocked"),
        pytest.param("sys.modules['torch'] = types.ModuleType('torch')", id="torch without cuda"),
    ],
)
def test_an_engine_s_plugin_without_cuda(host, modules):
    script = f"""
import sys, threading, types
{modules}
from gpuward.tap.plugin import engine_plugin
engine_plugin()
print(threading.active_count())
"""

    assert host.run(script) == (0, "1\n", "")


def test_a_full_disk_is_survived(host, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(disk)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting is not permitted")
    try:
        assert host.run(WORK, GPUWARD_TAP_DIR=str(disk)) == (0, "work done 2\n", "")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_statistics_that_raise_degrade_the_tap(host):
    script = (
        WAIT_FOR_RECORD
        + """
def broken(device):
    torch.cuda.asked_by.append(1)
    raise RuntimeError("not supported")
torch.cuda.memory_stats_as_nested_dict = broken
torch.cuda.init(); wait_for(published)
print(len(torch.cuda.asked_by), open(published()[0], "rb").read()[5120 + 44])
"""
    )

    assert host.run(script) == (0, "1 4\n", "")


def test_an_allocator_that_takes_the_gil_is_never_asked(host):
    """Asking would hang the process: it would hold the GIL and wait for the allocator's lock."""
    script = (
        WAIT_FOR_RECORD
        + """
import threading, types
def hang(device):
    threading.Lock().acquire(); threading.Event().wait()
torch.cuda.memory_stats_as_nested_dict = hang
sys.modules["vllm.device_allocator.cumem"] = types.ModuleType("cumem")
torch.cuda.init(); wait_for(published)
print(open(published()[0], "rb").read()[5120 + 44])
"""
    )

    assert host.run(script) == (0, "4\n", "")


def test_the_switch_stops_the_tap_within_two_ticks(host):
    script = (
        USE_CUDA
        + """
import threading
asked = len(torch.cuda.asked_by)
open(os.path.join(os.environ["GPUWARD_TAP_DIR"], "DISABLE"), "w").close()
wait_for(lambda: not files() and threading.active_count() == 1)
print(len(torch.cuda.asked_by) - asked <= 2)
"""
    )

    assert host.run(script) == (0, "True\n", "")


WORKER = (
    WAIT_FOR_RECORD
    + """
import ctypes, threading
torch.cuda.init()
worker = threading.Thread(target=lambda: ctypes.CDLL(None).sleep(5))
worker.start()
"""
)


@pytest.mark.parametrize(
    ("main_thread", "asked_by"),
    [
        pytest.param("worker.join()", {"gpuward-tap"}, id="waits for a thread"),
        pytest.param("ctypes.CDLL(None).sleep(5)", set(), id="sits in C"),
    ],
)
def test_a_main_thread_without_python(host, main_thread, asked_by):
    """The tap's own thread asks, but not while the main thread may hold the allocator's lock."""
    script = f"{WORKER}\n{main_thread}\nprint(sorted(set(torch.cuda.asked_by) - {{'MainThread'}}))"

    assert host.run(script) == (0, f"{sorted(asked_by)}\n", "")


def test_ctrl_c_inside_the_tap_reaches_the_host(host):
    """A signal handler may run inside the pending call; its exception belongs to the host."""
    script = (
        WAIT_FOR_RECORD
        + """
import signal
def interrupted(device):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass
    return {}
torch.cuda.memory_stats_as_nested_dict = interrupted
torch.cuda.init()
try:
    for _ in range(500): time.sleep(0.01)
    print("lost")
except KeyboardInterrupt:
    print("interrupted")
"""
    )

    assert host.run(script) == (0, "interrupted\n", "")


def test_an_out_of_memory_error_is_written_at_once(host):
    script = (
        USE_CUDA
        + """
import struct
torch._C.observers[0](0, 3 << 30, 80 << 30, 5 << 20)
raw = open(files()[0], "rb").read()
slots = [raw[4096:5120], raw[5120:6144]]
newest = max(slots, key=lambda slot: struct.unpack_from("<Q", slot)[0])
print(struct.unpack_from("<4Q", newest, 872), newest[44])
"""
    )

    assert host.run(script) == (0, f"({3 << 30}, {5 << 20}, {1 << 30}, 0) 18\n", "")


def test_a_killed_process_leaves_its_last_record(host):
    process = host.start(USE_CUDA + 'print("ready", flush=True); sys.stdin.read()')
    with process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)

    (path,) = host.files
    assert _records(path)[1][-1].all_pools.reserved_bytes == 2**30


def test_every_module_compiles(tmp_path, python):
    command = [python, "-S", "-W", "error", "-m", "compileall", "-q", "-f", "-d", str(tmp_path)]
    done = subprocess.run(
        [*command, str(TAP / "gpuward")],
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_version_is_the_distribution_s():
    project = tomllib.loads((TAP / "pyproject.toml").read_text())["project"]

    assert (project["version"], project["dependencies"]) == (VERSION, [])
