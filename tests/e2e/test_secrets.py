"""A secret of a workload, in its command line, environment, title and paths, comes out nowhere.

Only listed flags of a command line are kept.  Public by nature, and so not searched for: the name
of a unit, pod and container, the name of the program or script, and the last part of a model's
path, which is the model's name.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import secrets
import shutil
import signal
import string
import subprocess
import sys
import tarfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from gpuward.agent import map_command
from gpuward.cli.tap import write_tap
from gpuward.v1 import agent_pb2, agent_pb2_grpc

if TYPE_CHECKING:
    from secrets_node import Daemon, Node, Workload

pytestmark = pytest.mark.simulator

PYTHON = Path(sys.executable)
# What a listed flag says is shown, so it must be found wherever a secret would have been.
SHOWN = "shown-model-name"

# Each takes away one of the rules by which the agent keeps what it may show.
MUTATIONS = {
    "one flag more is listed": (
        "path",
        """
from dataclasses import replace
from gpuward.agent import process_identity
process_identity.ENGINES = tuple(
    replace(engine, model_flags=("--api-key",)) for engine in process_identity.ENGINES
)
""",
    ),
    "a path is a name": (
        "path",
        "from gpuward.agent import process_identity\nprocess_identity.model_name = str\n",
    ),
    "any file names a script": (
        "nameless",
        """
from gpuward.agent import process_identity
process_identity._script = lambda program, words: max(words, key=lambda word: word.endswith(".py"))
""",
    ),
}


def _load():
    # Tests are files, not a package.
    path = Path(__file__).with_name("secrets_node.py")
    spec = importlib.util.spec_from_file_location("secrets_node", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


parts = _load()
TORCH_PYTHON, until = parts.TORCH_PYTHON, parts.until


@pytest.fixture
def canary():
    """A word that nothing else could contain."""
    letters = string.ascii_letters + string.digits
    return secrets.choice(string.ascii_letters) + "".join(
        secrets.choice(letters) for _ in range(25)
    )


def traces(canary: str, output: bytes) -> list[str]:
    """Return where the word, or half of it, stands in ``output``: plain or encoded, in any case."""
    halves = (canary[:13].encode(), canary[13:].encode())
    plain = [
        (form.lower(), output.lower()) for half in halves for form in (half, half.hex().encode())
    ]
    # In base64 a word looks different at each of three distances from the start.
    encoded = [
        (
            base64.b64encode(b"\0" * before + half)[-(-before * 4 // 3) : (before + 13) // 3 * 4],
            output,
        )
        for half in halves
        for before in range(3)
    ]
    return [
        repr(text[max(0, at - 60) : at + 60])
        for form, text in (*plain, *encoded)
        if (at := text.find(form)) >= 0
    ]


@pytest.mark.parametrize(
    "hide",
    [
        pytest.param(lambda word: word.encode(), id="as it is"),
        pytest.param(lambda word: word.upper().encode(), id="upper case"),
        pytest.param(lambda word: word[:13].lower().encode(), id="first half"),
        pytest.param(lambda word: word[13:].encode(), id="second half"),
        pytest.param(lambda word: base64.b64encode(b"a" + word.encode()), id="base64"),
        pytest.param(lambda word: base64.b64encode(b"ab" + word.encode()), id="base64, shifted"),
        pytest.param(lambda word: b"%7B" + word.encode() + b"%7D", id="URL encoded"),
        pytest.param(lambda word: word.encode().hex().upper().encode(), id="hexadecimal"),
    ],
)
def test_every_form_is_found(canary, hide):
    """Halves are 13 characters of letters and digits: their base64 has one alphabet only."""
    assert traces(canary, b"before" + hide(canary) + b"after")
    assert traces(canary, b"before and after") == []


def start_engines(node: Node, stem: str = "") -> list[Workload]:
    """Start a process for each way in which a name is found; return them once they hold memory."""
    canary, home = node.canary, node.home
    work = home / "work"
    for name in ("vllm", "llama-server", "app.py", "app"):
        shutil.copy(work / "replica_with_secrets.py", work / name)
    (work / "sglang").mkdir()
    shutil.copy(work / "app", work / "sglang" / "launch_server.py")
    flags = ["--api-key", canary, f"--hf-token={canary}", f"--{canary}", canary]
    url = f"https://user:{canary}@host/model"
    python = str(PYTHON)
    engines = {
        "path": [python, f"{work}/vllm", "serve", f"{home}/models/qwen", *flags, url],
        "alias": ["llama-server", f"{work}/app", "-m", f"{home}/models/phi.gguf", *flags],
        "title": [f"VLLM::Worker_{canary}", f"{work}/app", *flags],
        "module": [python, "-um", "sglang.launch_server", "--model-path", url, *flags],
        "script": [python, f"{work}/app.py", "-m", canary, *flags, f"{canary}.py"],
        "nameless": [python, f"{work}/app", "-m", canary, f"{canary}.py", *flags],
    }
    started = [node.workload(name, argv) for name, argv in engines.items() if stem in name]
    for workload in started:
        workload.wait_until_ready()
    return started


def start_torch(node: Node) -> Workload:
    """Start a vLLM to look at that is torch, with the tap in it, in pieces."""
    canary, work = node.canary, node.home / "work"
    (work / "torch").mkdir()
    program = shutil.copy(work / "torch_with_secrets.py", work / "torch" / "vllm")
    argv = [str(TORCH_PYTHON), program, "serve", f"{node.home}/models/llama", "--api-key", canary]
    argv += [f"--hf-token={canary}", "--served-model-name", SHOWN, canary, f"--{canary}"]
    write_tap(node.inside / "mounted")
    path = str(node.inside / "mounted")
    return node.workload("torch", argv, TORCH_PYTHON, PYTHONPATH=path, PYTHONWARNINGS="ignore")


def answers(agent: Daemon) -> dict[str, bytes]:
    """Return all that an agent says of itself, and answers to whoever asks."""
    accept = "application/openmetrics-text;version=1.0.0"
    found = {path: agent.get(path) for path in ("/metrics", "/healthz", "/readyz")}
    found["/metrics, OpenMetrics"] = agent.get("/metrics", Accept=accept)
    with grpc.insecure_channel(agent.address("grpc")) as channel:
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        snapshot = stub.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=200).snapshot
        found["GetSnapshot"] = snapshot.SerializeToString()
        found["GetHistory"] = b"".join(
            stub.GetHistory(agent_pb2.GetHistoryRequest(series=value.series)).SerializeToString()
            for value in snapshot.values
        )
        for name, request in (
            ("GetMemoryMap", agent_pb2.GetMemoryMapRequest(pid=1)),
            ("Watch", agent_pb2.WatchRequest()),
            ("RunProbe", agent_pb2.RunProbeRequest(probe="latency")),
            ("RunCheck", agent_pb2.RunCheckRequest(check="anything")),
        ):
            try:
                answer = getattr(stub, name)(request, timeout=200)
                first = next(answer) if name == "Watch" else answer
                found[name] = first.SerializeToString()
            except grpc.RpcError as error:
                found[name] = f"{error.code()}: {error.details()}".encode()
    found["gpuward agent map, refused"] = command(
        "agent", "map", "--address", agent.address("grpc")
    )
    return found


def of_torch(agent: Daemon) -> dict[str, bytes]:
    """Return the answers once torch is among the processes that a map may be had of.

    A torch that is in C for a second shows nothing of its memory meanwhile.
    """
    found: dict[str, bytes] = {}

    def is_shown() -> bool:
        found.update(answers(agent))
        return SHOWN.encode() in found["gpuward agent map, refused"]

    until(is_shown)
    return found


def for_people(node: Node, agent: Daemon) -> dict[str, bytes]:
    """Return what the commands for people show: a live view, and a bundle that leaves the house."""
    config, out = str(node.folder / "agent.toml"), node.inside / "bundle.tar.gz"
    command("agent", "bundle", "--config", config, "--out", str(out))
    with tarfile.open(out) as tar:
        parts = {Path(m.name).name: tar.extractfile(m).read() for m in tar.getmembers()}
    assert b"Xid" in parts["kernel.log"]
    return {
        "gpuward agent top": command("agent", "top", "--address", agent.address("grpc")),
        **{f"bundle: {name}": text for name, text in parts.items()},
    }


def maps(node: Node, agent: Daemon, pid: int) -> dict[str, bytes]:
    """Return the map of a process, as question, answer, picture and text: one walk serves all."""
    done, files = threading.Event(), {}

    def watch() -> None:
        while not done.wait(0.001):
            for path in (node.folder / "tap").iterdir():
                if path.suffix in (".map", ".req"):
                    with suppress(OSError):
                        files[f"tap/{path.name}"] = path.read_bytes()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        memory_map = map_command.fetch(agent.address("grpc"), map_command.Choice(pid=pid))
    finally:
        done.set()
        watching.join()
    assert {".map", ".req"} <= {Path(name).suffix for name in files}
    return {
        **files,
        "gpuward agent map": map_command.picture(memory_map).encode(),
        "gpuward agent map --svg": map_command.svg(memory_map).encode(),
    }


def told(coordinator: Daemon) -> dict[str, bytes]:
    """Acknowledge and resolve every incident; return all that people and programs read of them."""
    url = f"http://{coordinator.address('http')}"
    incidents = json.loads(coordinator.get("/api/v1/incidents"))["incidents"]
    found: dict[str, bytes] = {}
    for incident in incidents:
        place = f"/incidents/{incident['id']}"
        texts = {
            verb: coordinator.get(f"/api/v1{place}/{verb}", "POST", {"by": "Ann"})
            for verb in ("ack", "resolve")
        }
        for path in (place, f"{place}/review", f"/api/v1{place}", f"/api/v1{place}/review"):
            texts[path.replace(incident["id"], "ID")] = coordinator.get(path)
        for option in ([], ["--json"]):
            words = ("incidents", "show", incident["id"], "--url", url, *option)
            texts[f"gpuward incidents show {option}"] = command(*words)
        found |= {name: found.get(name, b"") + text for name, text in texts.items()}
    found |= {path: coordinator.get(path) for path in ("/", "/api/v1/incidents", "/readyz")}
    found["gpuward incidents list"] = command("incidents", "list", "--all", "--url", url)
    return found


def explained(coordinator: Daemon) -> bytes:
    """Return the incidents that have torch among their causes."""
    incidents = json.loads(coordinator.get("/api/v1/incidents"))["incidents"]
    texts = (coordinator.get(f"/api/v1/incidents/{incident['id']}") for incident in incidents)
    return b"".join(text for text in texts if SHOWN.encode() in text)


def command(*words: str) -> bytes:
    done = subprocess.run(
        [PYTHON.with_name("gpuward"), *words], capture_output=True, check=False, timeout=200
    )
    return done.stdout + done.stderr


KEYS = (b"vllm:qwen", b"llama.cpp:phi.gguf", b"sglang", b"app.py", SHOWN.encode())
KINDS = ("process.memory.fragmentation", "process.memory.oom", "gpu.xid")
# Where a secret would have shown, as the model's name stands there.
SHOWN_IN = {
    "/api/v1/incidents/ID",
    "/api/v1/incidents/ID/review",
    "/incidents/ID",
    "/incidents/ID/review",
    "agent.json.log",
    "agent/spool.db",
    "coordinator/coordinator.db",
    "gpuward incidents show []",
    "gpuward incidents show ['--json']",
    "on the wire",
    "torch is gone: /metrics",
    "torch is there: /metrics",
    "torch is there: /metrics, OpenMetrics",
    "torch is there: GetHistory",
    "torch is there: GetSnapshot",
    "torch is there: bundle: snapshot.json",
    "torch is there: gpuward agent map",
    "torch is there: gpuward agent map --svg",
    "torch is there: gpuward agent map, refused",
    "torch is there: gpuward agent top",
}


@pytest.mark.torch
def test_no_output_holds_a_secret(tmp_path, canary):
    """Processes in trouble, parts that are killed, everything that is said by anybody on the way.

    What is allowed to be shown is there, in each kind of output that shows processes.
    """
    if not TORCH_PYTHON.exists():
        pytest.skip("no CUDA build of torch in .venv/torch: make .venv/torch.stamp")
    with ExitStack() as stack:
        node = parts.Node(tmp_path, canary, stack)
        torch = start_torch(node)
        coordinator, agent = node.coordinator(), node.agent()
        others = start_engines(node)
        torch.wait_until_ready()
        until(lambda: b'kind="process.memory.fragmentation"' in agent.get("/metrics"))
        said = {
            f"torch is there: {name}": text for name, text in maps(node, agent, torch.pid).items()
        }

        node.log_xid(0, 31, torch.pid)
        node.log_xid(1, 79, others[0].pid)
        (node.inside / "trouble").touch()
        until(lambda: all(key in agent.get("/metrics") for key in KEYS))
        until(lambda: b"process.memory.oom" in coordinator.get("/api/v1/incidents"))
        until(lambda: b"service.impact" in explained(coordinator))
        until((tmp_path / "pages.jsonl").exists)
        said |= {f"torch is there: {name}": text for name, text in of_torch(agent).items()}
        said |= {f"torch is there: {name}": t for name, t in for_people(node, agent).items()}

        for part in (torch, others[-1]):
            part.kill()
        agent.end(signal.SIGKILL)
        coordinator.end(signal.SIGKILL)
        said |= {f"killed: {name}": text for name, text in node.files().items()}
        coordinator, agent = node.coordinator(console=True), node.agent(console=True)
        until(lambda: b"vllm:qwen" in agent.get("/metrics"))
        until(lambda: b"service.impact" in explained(coordinator))
        said |= {f"torch is gone: {name}": text for name, text in answers(agent).items()}
        said |= told(coordinator)
        agent.end(signal.SIGTERM)
        coordinator.end(signal.SIGTERM)
        said |= {"on the wire": bytes(node.wire.kept), **node.files()}

    assert {} == {name: found for name, text in said.items() if (found := traces(canary, text))}
    assert set() == SHOWN_IN - {name for name, text in said.items() if SHOWN.encode() in text}
    assert all(kind.encode() in said["on the wire"] for kind in KINDS)


@pytest.mark.parametrize(
    ("stem", "mutation"),
    [pytest.param(*case, id=name) for name, case in MUTATIONS.items()],
)
def test_a_leak_is_found(tmp_path, canary, stem, mutation):
    """With one rule taken away, the same search finds the secret in what the agent says."""
    with ExitStack() as stack:
        node = parts.Node(tmp_path, canary, stack)
        start_engines(node, stem)
        agent = node.agent(mutation)

        assert until(lambda: traces(canary, agent.get("/metrics")))
