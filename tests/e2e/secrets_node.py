"""A simulated node for the search for secrets: every part runs, and all that it says is kept."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from gpuward.simulator.cuda_stubs import library_folders
from gpuward.simulator.libraries import environment
from gpuward.simulator.state import State

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = Path(sys.executable)
TORCH_PYTHON = Path(
    os.environ.get(
        "GPUWARD_TORCH_PYTHON", Path(__file__).parents[2] / ".venv" / "torch" / "bin" / "python"
    )
)
GIB = 1 << 30
GPU = "GPU-0000000{}-aaaa-bbbb-cccc-ddddeeeeffff"

AGENT = """
[node]
name = "n1"
[state]
directory = "{folder}/agent"
[http]
address = "127.0.0.1:0"
[grpc]
address = "127.0.0.1:0"
[coordinator]
address = "{coordinator}"
report_interval_s = 1.0
[tap]
directory = "{folder}/tap"
[kmsg]
path = "{kmsg}"
[[engines]]
service = "chat"
url = "http://{page}"
"""
COORDINATOR = """
[state]
directory = "{folder}/coordinator"
[grpc]
address = "127.0.0.1:0"
[http]
address = "127.0.0.1:0"
[escalation]
speed = 3000.0
[[notifiers]]
type = "file"
name = "pages"
path = "{folder}/pages.jsonl"
"""
DEBUG = """
import functools
from gpuward.daemon import log
log.configure = functools.partial(log.configure, level="debug")
"""


class Node:
    """A simulated node: what its parts say lies below ``folder``, but for ``folder/in``."""

    def __init__(self, folder: Path, canary: str, stack: ExitStack) -> None:
        self.folder, self.canary, self.stack = folder, canary, stack
        # What goes in: the workloads live in a folder whose name is the secret.
        self.inside = folder / "in"
        self.home = self.inside / canary
        shutil.copytree(PROGRAMS, self.home / "work")
        (folder / "tap").mkdir()
        self.kmsg = self.inside / "kmsg"
        self.kmsg.touch()
        self.state = self._gpus()
        self.wire = stack.enter_context(Wire(folder / "coordinator"))
        self.page = stack.enter_context(serve_engine_page(str(self.home), canary))

    def _gpus(self) -> State:
        state = State.create(self.inside / "driver", gpu_count=2)
        for index, gpu in enumerate(state.row.gpus[:2]):
            gpu.name, gpu.uuid = b"NVIDIA H100 80GB HBM3", GPU.format(index).encode()
            gpu.compute_capability_major, gpu.multiprocessor_count = 9, 132
            gpu.pci_bus, gpu.memory_total_bytes = 0x10 + index, 4 * GIB
        state.row.cuda_version = 13000
        state.load_driver("580.105.08")
        return state

    def agent(self, sitecustomize: str = DEBUG, *, console: bool = False) -> Daemon:
        places = {"folder": self.folder, "kmsg": self.kmsg}
        config = AGENT.format(**places, page=self.page, coordinator=self.wire.address)
        return Daemon(self, "agent", config, sitecustomize, console=console)

    def coordinator(self, *, console: bool = False) -> Daemon:
        config = COORDINATOR.format(folder=self.folder)
        return Daemon(self, "coordinator", config, DEBUG, console=console)

    def workload(self, name: str, argv: list[str], python: Path = PYTHON, **env: str) -> Workload:
        """Start ``argv`` under an interpreter, secrets all around it; ``argv[0]`` is its title."""
        search = (
            {"LD_LIBRARY_PATH": ":".join(map(str, library_folders(TORCH_PYTHON)))}
            if python == TORCH_PYTHON
            else {"PYTHONPATH": ":".join([str(self.home / "work"), *filter(None, sys.path)])}
        )
        secret = dict.fromkeys(
            ("HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "RANK", self.canary), self.canary
        )
        return Workload(
            argv,
            self.inside / name,
            stack=self.stack,
            executable=python,
            cwd=self.home / "work",
            env={
                **environment(self.state.path, self.inside, base={"PATH": os.environ["PATH"]}),
                **search,
                **secret,
                "GPUWARD_TAP_DIR": str(self.folder / "tap"),
                "GPUWARD_TAP_SERVICE": self.canary,
                "TITLE": self.canary[:15],
                "TROUBLE": str(self.inside / "trouble"),
                **env,
            },
        )

    def log_xid(self, gpu: int, code: int, pid: int) -> None:
        """Let the driver complain of a process by pid and by its name, which is the secret."""
        with self.kmsg.open("a") as log:
            seq, usec = self.kmsg.stat().st_size, int(time.monotonic() * 1e6)
            address = f"PCI:0000:1{gpu}:00"
            name = self.canary[:15]
            log.write(
                f"3,{seq},{usec},-;NVRM: Xid ({address}): {code}, pid={pid}, name={name}, Ch 8\n"
                f"6,{seq + 1},{usec},-;Out of memory: Killed process {pid} ({name})\n"
            )

    def files(self) -> dict[str, bytes]:
        """Return all that lies on disk, what goes in apart."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in found
            if self.inside not in path.parents
        }


class Workload:
    """A process that holds GPU memory; its own output is its own business."""

    def __init__(self, argv: list[str], ready: Path, *, stack: ExitStack, **options) -> None:
        log = ready.with_suffix(".log")
        options["env"] |= {"READY": str(ready)}
        with log.open("wb") as output:
            self._child = subprocess.Popen(argv, stdout=output, stderr=output, **options)
        self.pid = self._child.pid
        stack.callback(self.kill)
        self._ready, self._log = ready, log

    def wait_until_ready(self) -> None:
        until(lambda: self._ready.exists() or self._child.poll() is not None)
        assert self._child.poll() is None, self._log.read_text()

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()


class Daemon:
    """The agent or the coordinator; its log is a file, JSON or what people on a terminal see."""

    def __init__(
        self, node: Node, name: str, config: str, sitecustomize: str, *, console: bool
    ) -> None:
        self._addresses = node.folder / name / "addresses.json"
        self._addresses.unlink(missing_ok=True)
        path = node.folder / f"{name}.toml"
        path.write_text(config)
        python = node.inside / f"python-{name}"
        python.mkdir(exist_ok=True)
        (python / "sitecustomize.py").write_text(sitecustomize)
        self._log = node.folder / f"{name}.{'console' if console else 'json'}.log"
        terminal, stderr = (
            pty.openpty() if console else (None, os.open(self._log, os.O_WRONLY | os.O_CREAT))
        )
        self._child = subprocess.Popen(
            [PYTHON, "-P", "-m", f"gpuward.{name}", "run", "--config", path],
            env=environment(node.state.path, node.inside)
            | {"PYTHONPATH": ":".join([str(python), *filter(None, sys.path)])},
            stderr=stderr,
            start_new_session=True,
        )
        os.close(stderr)
        self._copying = threading.Thread(target=self._copy, args=(terminal,), daemon=True)
        self._copying.start()
        node.stack.callback(self.end, signal.SIGKILL)
        until(lambda: self._addresses.exists() or self._child.poll() is not None)
        assert self._child.poll() is None, self._log.read_text()

    def address(self, protocol: str) -> str:
        return json.loads(self._addresses.read_text())[protocol]

    def get(
        self, path: str, method: str = "GET", body: dict | None = None, **headers: str
    ) -> bytes:
        request = urllib.request.Request(
            f"http://{self.address('http')}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
        )
        try:
            with urllib.request.urlopen(request, timeout=200) as answer:
                return answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.read()

    def end(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)
        self._child.wait(200)
        self._copying.join(200)

    def _copy(self, terminal: int | None) -> None:
        if terminal is None:
            return
        with self._log.open("ab", buffering=0) as log, suppress(OSError):  # the other end is gone
            while data := os.read(terminal, 65536):
                log.write(data)
        os.close(terminal)


class Wire:
    """Carries bytes between an agent and whichever coordinator runs now, and keeps them."""

    def __init__(self, state_of_coordinator: Path) -> None:
        self._state = state_of_coordinator
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:{1}".format(*self._server.getsockname())
        self.kept = bytearray()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                agent, _ = self._server.accept()
                try:
                    address = json.loads((self._state / "addresses.json").read_text())["grpc"]
                    host, _, port = address.partition(":")
                    coordinator = socket.create_connection((host, int(port)))
                except OSError:
                    agent.close()
                    continue
                for ends in ((agent, coordinator), (coordinator, agent)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(65536):
                self.kept += data
                sink.sendall(data)
            # Wakes the thread of the other direction, which a mere close would not.
            sink.shutdown(socket.SHUT_RDWR)
            source.shutdown(socket.SHUT_RDWR)


@contextmanager
def serve_engine_page(folder: str, canary: str):
    """The metrics page of a failing engine, which tells more than it should; yields its address."""
    labels = f'model_name="{folder}/models/page",key="{canary}"'
    began_s = time.monotonic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            requests = int(50 * (time.monotonic() - began_s))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                f"# HELP vllm:request_success_total {canary}\n"
                f'vllm:request_success_total{{{labels},finished_reason="stop"}} {requests}\n'
                f'vllm:request_success_total{{{labels},finished_reason="error"}} {requests}\n'
                f'{canary}_total{{key="{canary}"}} 1\n'.encode()
            )

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def until(condition, within_s: float = 30.0):
    """Return the first true answer of ``condition``."""
    deadline_s = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.1)
    return found
