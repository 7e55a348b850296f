"""Which service a GPU process serves, in trees of processes as servers make them."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engine_kv_cache import KvCache
from gpuward.agent.engines.reading import Reading
from gpuward.agent.model import Process
from gpuward.agent.process_identity import identify
from gpuward.agent.samplers.serving import ServingSampler

CONTAINER = "f3a9" * 16
UNIT = "0::/system.slice/chat.service"
SESSION = "0::/user.slice/user-0.slice/session-3.scope"
STARTED = 500
CHAT = EngineConfig(service="chat", url="http://127.0.0.1:8000")
CODE = EngineConfig(service="code", url="http://127.0.0.1:8001")
QUIET = Reading("vllm", {}, {})
BUSY = {"requests_running": 3.0}
CACHE = KvCache(1_000, 2, tokens=16_000, usage_ratio=0.3)
OURS, POD, OTHER_POD = "net:[1]", "net:[2]", "net:[3]"


class Node:
    """A /proc and a /sys/fs/cgroup, written as the kernel would."""

    def __init__(self, root):
        self.proc = root / "proc"
        self.cgroup = root / "cgroup"
        self._inode = 1_000
        self._namespaces = {OURS: ([], "127.0.0.1")}
        self._places = {}
        self._link(self.proc / "self" / "ns" / "net", OURS)

    def namespace(self, name, address):
        self._namespaces[name] = ([], address)

    def process(self, pid, *, parent=1, namespace=OURS, cgroup=SESSION, comm="python3 (x) y"):
        folder = self.proc / str(pid)
        fields = ["S", parent, *[0] * 17, STARTED, *[0] * 30]
        (folder / "fd").mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(map(str, fields))}\n")
        (folder / "cgroup").write_text(f"{cgroup}\n")
        self._link(folder / "ns" / "net", namespace)
        self._link(folder / "fd" / "0", "/dev/null")
        self._append(folder / "task" / str(pid) / "children", "")
        self._append(self.proc / str(parent) / "task" / str(parent) / "children", f"{pid} ")
        self._append(self.cgroup / cgroup[4:] / "cgroup.procs", f"{pid}\n")
        (folder / "net").mkdir()
        self._places[pid] = namespace
        self._write(namespace)
        return folder

    def listen(self, pid, port, address="00000000"):
        """Let ``pid`` listen in its namespace; returns the inode."""
        self._inode += 1
        listeners, _ = self._namespaces[self._places[pid]]
        listeners.append(
            f"   0: {address}:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000"
            f"     0        0 {self._inode} 1 00000000d9c5e92a 100 0 0 10 0\n"
        )
        self._write(self._places[pid])
        self.hold(pid, self._inode)
        return self._inode

    def hold(self, pid, inode):
        self._link(self.proc / str(pid) / "fd" / str(inode), f"socket:[{inode}]")

    def _write(self, namespace):
        listeners, address = self._namespaces[namespace]
        for pid, place in self._places.items():
            if place == namespace:
                folder = self.proc / str(pid) / "net"
                (folder / "tcp").write_text(
                    "  sl  local_address rem_address\n" + "".join(listeners)
                )
                (folder / "fib_trie").write_text(f"  |-- {address}\n     /32 host LOCAL\n")

    def _link(self, path, target):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def _append(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def gpu_process(pid, key="python3.11", *, start_ticks=STARTED, **names):
    return Process(key, pid, start_ticks, gpus=("GPU-1",), **names)


def sampler_on(node, listed, engines=(CHAT, CODE), reading_of=lambda _: None):
    return ServingSampler(
        lambda: engines,
        proc_root=node.proc,
        cgroup_root=node.cgroup,
        processes=lambda: listed,
        reading_of=reading_of,
    )


async def services(node, *pids, engines=(CHAT, CODE)):
    listed = [gpu_process(pid) for pid in pids]
    batch = await sampler_on(node, listed, engines).sample(0.0)
    return {process.pid: process.service for process in batch.processes}


async def test_the_process_itself_listens(node):
    node.process(10)
    node.listen(10, 8000)

    assert await services(node, 10) == {10: "chat"}


async def test_nobody_listens(node):
    node.process(10)

    assert await services(node, 10) == {}


async def test_worker_of_an_engine_core(node):
    """vLLM: API server, engine core, workers; all of them serve what the API server serves."""
    node.process(10)
    node.listen(10, 8000)
    node.process(11, parent=10)
    node.process(12, parent=11)
    # Started beside it, by the same shell.
    node.process(20)
    node.listen(20, 8001)
    node.process(21, parent=20)

    assert await services(node, 12, 11, 21) == {12: "chat", 11: "chat", 21: "code"}


@pytest.mark.parametrize(
    ("generations", "found"),
    [pytest.param(8, True, id="eighth ancestor"), pytest.param(9, False, id="ninth ancestor")],
)
async def test_ancestors_are_bounded(node, generations, found):
    node.process(10)
    node.listen(10, 8000)
    for pid in range(11, 11 + generations):
        node.process(pid, parent=pid - 1)

    assert bool(await services(node, 10 + generations)) is found


async def test_a_router_and_workers_of_one_launcher(node):
    """The router listens, its sibling holds the GPU."""
    node.process(10)
    node.process(11, parent=10)
    node.listen(11, 8000)
    node.process(12, parent=10)

    assert await services(node, 12) == {12: "chat"}


async def test_a_sibling_is_none_of_an_engine_that_has_its_own(node):
    """What one shell started beside a server does not serve what the server's workers serve."""
    node.process(9)
    node.process(10, parent=9)
    node.listen(10, 8000)
    node.process(11, parent=10)
    node.process(30, parent=9)

    assert await services(node, 11, 30) == {11: "chat"}


async def test_children_of_init_are_no_family(node):
    node.process(10)
    node.listen(10, 8000)
    node.process(20)

    assert await services(node, 20) == {}


@pytest.mark.parametrize(
    ("cgroup", "service"),
    [
        pytest.param(UNIT, {20: "chat"}, id="unit"),
        pytest.param(f"0::/system.slice/docker-{CONTAINER}.scope", {20: "chat"}, id="container"),
        pytest.param(SESSION, {}, id="login session"),
        pytest.param("0::/", {}, id="root"),
        pytest.param("0::/../chat.service", {}, id="outside of our cgroup namespace"),
    ],
)
async def test_of_one_cgroup(node, cgroup, service):
    """Orphans of one unit or container serve together; of a login session they do not."""
    node.process(10, cgroup=cgroup)
    node.listen(10, 8000)
    node.process(20, cgroup=cgroup)

    assert await services(node, 20) == service


async def test_pods_listen_on_one_port(node):
    """Two pods with port 8000 are told apart by their addresses, and from the node's loopback."""
    node.namespace(POD, "10.0.7.2")
    node.namespace(OTHER_POD, "10.0.7.3")
    node.process(10, namespace=POD)
    node.listen(10, 8000)
    node.process(20, namespace=OTHER_POD)
    node.listen(20, 8000)
    node.process(30)
    node.listen(30, 8000)
    engines = (
        EngineConfig(service="chat", url="http://10.0.7.2:8000"),
        EngineConfig(service="code", url="http://10.0.7.3:8000"),
        EngineConfig(service="local", url="http://localhost:8000"),
    )

    assert await services(node, 10, 20, 30, engines=engines) == {
        10: "chat",
        20: "code",
        30: "local",
    }


async def test_loopback_is_the_agents_own(node):
    """A pod's 127.0.0.1 is not the one in the agent's configuration."""
    node.namespace(POD, "10.0.7.2")
    node.process(10, namespace=POD)
    node.listen(10, 8000, "0100007F" if sys.byteorder == "little" else "7F000001")

    assert await services(node, 10) == {}


async def test_a_process_in_front_of_two_services(node):
    """Who hands sockets to several services says nothing of those behind it."""
    node.process(10)
    node.listen(10, 8000)
    node.listen(10, 8001)
    node.process(11, parent=10)

    assert await services(node, 11) == {}


async def test_another_process_has_the_pid_now(node):
    node.process(10)
    node.listen(10, 8000)
    listed = [gpu_process(10, start_ticks=STARTED - 1)]

    assert (await sampler_on(node, listed).sample(0.0)).processes == ()


@pytest.mark.parametrize(
    "text", ["", "10 (x", "10 (x) S", "10 (x) S " + "9" * 30, "10 (x) S -1 " + "0 " * 16 + "500"]
)
async def test_hostile_stat(node, text):
    """A stat line that is none makes nobody serve anything, and nothing fail."""
    folder = node.process(10)
    node.listen(10, 8000)
    node.process(11, parent=10)
    (folder / "stat").write_text(text)

    assert await services(node, 10) == {}


async def test_looks_again_after_ten_seconds(node):
    """An engine listens long after its process took the GPU."""
    node.process(10)
    sampler = sampler_on(node, [gpu_process(10)])
    await sampler.sample(0.0)
    node.listen(10, 8000)

    assert (await sampler.sample(9.0)).processes == ()
    assert [p.service for p in (await sampler.sample(10.0)).processes] == ["chat"]


@pytest.mark.parametrize(("begins_s", "found_s"), [(None, 70), (5, 10), (15, 30)])
async def test_searches_anew_for_a_socket_that_is_new(node, begins_s, found_s):
    """Who holds one was there when it began; what contradicts that is noticed within a minute."""
    node.process(10)
    node.process(11)
    inode = node.listen(10, 8000)
    sampler = sampler_on(node, [gpu_process(11)])
    await sampler.sample(0.0)
    node.hold(11, inode)

    served_s = None
    for now_s in range(1, 100):
        if now_s == begins_s:
            node.listen(10, 8001)
        if (await sampler.sample(float(now_s))).processes and served_s is None:
            served_s = now_s

    assert served_s == found_s


async def looks(node, until_s, answers_s=None):
    """Return when a process that serves nothing is looked at; an engine answers from some time."""
    node.process(10)
    sampled_s = []

    def reading_of(_):
        now_s = sampled_s[-1]
        return (now_s, None) if answers_s is not None and now_s >= answers_s else None

    sampler = sampler_on(node, [gpu_process(10)], reading_of=reading_of)
    looked_s = []
    for now_s in range(until_s):
        sampled_s.append(float(now_s))
        await sampler.sample(float(now_s))
        (known,) = sampler._known.values()
        if known.looked_s == now_s:
            looked_s.append(now_s)
    return looked_s


async def test_looks_ever_less_often(node):
    """A process that serves nothing costs little for the rest of its life."""
    assert await looks(node, 200) == [0, 10, 30, 70, 130, 190]


async def test_looks_at_once_when_an_engine_begins_to_answer(node):
    """Then there is a socket to find; only its beginning counts, not that it goes on."""
    assert await looks(node, 200, answers_s=100) == [0, 10, 30, 70, 100, 110, 130, 170]


async def test_holds_for_life_and_no_longer(node):
    """What was found by descent stays while the process is listed, whoever listens now."""
    folder = node.process(10)
    inode = node.listen(10, 8000)
    listed = [gpu_process(10)]
    sampler = sampler_on(node, listed)
    await sampler.sample(0.0)
    (folder / "fd" / str(inode)).unlink()

    assert [p.service for p in (await sampler.sample(60.0)).processes] == ["chat"]
    listed.clear()
    assert (await sampler.sample(61.0)).processes == ()


async def test_does_not_keep_its_own_words_alive(node):
    """The window joins what samplers say: what only we say is of a process that is gone."""
    node.process(10)
    node.listen(10, 8000)
    listed = [gpu_process(10)]
    sampler = sampler_on(node, listed)
    listed[:] = (await sampler.sample(0.0)).processes

    assert (await sampler.sample(1.0)).processes == ()


async def kv_cache(node, reading, *, read_s=100.0, now_s=100.0, ranks=None):
    """Return what is said of the KV cache of workers on two GPUs, by GPU and short name."""
    node.process(10)
    node.listen(10, 8000)
    node.process(11, parent=10)
    node.process(12, parent=10)
    listed = [
        replace(
            gpu_process(pid, "vllm:llama"),
            gpus=(f"GPU-{pid}",),
            engine="vllm",
            rank=(ranks or {}).get(pid, ""),
        )
        for pid in (11, 12)
    ]
    pages = {CHAT: (read_s, reading)}
    batch = await sampler_on(node, listed, reading_of=pages.get).sample(now_s)
    assert {"vllm:llama"} >= {one.key.process for one in batch.samples}
    return {
        (one.key.gpu, one.key.signal.removeprefix("process_kv_cache_")): one.value
        for one in batch.samples
    }


async def test_the_kv_cache_of_every_rank(node):
    """Blocks are of one rank; what a request holds counts the blocks of all ranks."""
    found = await kv_cache(node, Reading("vllm", {"requests_running": 12.0}, {}, kv_cache=CACHE))

    said = {"blocks": 1_000, "tokens": 16_000, "usage_ratio": 0.3, "request_blocks": 50}
    assert {(gpu, name): said[name] for gpu in ("GPU-11", "GPU-12") for name in said} == found


async def test_a_rank_that_is_full_is_seen_on_its_own_gpus(node):
    full = replace(CACHE, used_ratios={"0": 0.1, "1": 0.95})
    found = await kv_cache(
        node,
        Reading("vllm", {}, {}, kv_cache=full),
        ranks={11: "DP0_TP0", 12: "DP1_TP0"},
    )

    assert found["GPU-11", "usage_ratio"] == 0.1
    assert found["GPU-12", "usage_ratio"] == 0.95


@pytest.mark.parametrize(
    ("cache", "running", "absent"),
    [
        pytest.param(CACHE, {"requests_running": 0.0}, "request_blocks", id="nothing runs"),
        pytest.param(CACHE, {}, "request_blocks", id="how much runs is not told"),
        pytest.param(KvCache(1_000), BUSY, "request_blocks", id="usage is not told"),
        pytest.param(KvCache(1_000), BUSY, "tokens", id="tokens are not told"),
        pytest.param(None, BUSY, "blocks", id="no cache"),
    ],
)
async def test_what_the_page_does_not_say_is_absent(node, cache, running, absent):
    found = await kv_cache(node, Reading("vllm", running, {}, kv_cache=cache))

    assert ("GPU-11", absent) not in found
    assert (("GPU-11", "blocks") in found) is (cache is not None)


@pytest.mark.parametrize(
    ("age_s", "is_said"),
    [pytest.param(10.0, True, id="just fresh"), pytest.param(10.1, False, id="stale")],
)
async def test_an_old_page_says_nothing_of_the_cache(node, age_s, is_said):
    found = await kv_cache(node, replace(QUIET, kv_cache=CACHE), read_s=100.0 - age_s)

    assert bool(found) is is_said


@pytest.mark.parametrize(
    ("names", "engine", "model"),
    [
        pytest.param({}, "vllm", "llama", id="both from engine and page"),
        pytest.param({"engine": "vllm"}, "vllm", "llama", id="model from the page"),
        pytest.param({"engine": "vllm", "model": "m"}, "vllm", "m", id="command line first"),
    ],
)
async def test_engine_and_model(node, names, engine, model):
    """What the command line did not say, the engine's page does; the key stays."""
    node.process(10)
    node.listen(10, 8000)
    listed = [gpu_process(10, "some-key", **names)]
    pages = {CHAT: (0.0, replace(QUIET, model="llama"))}
    sampler = sampler_on(node, listed, reading_of=pages.get)

    said = Process(
        "some-key",
        10,
        STARTED,
        engine=engine,
        model=model,
        service="chat",
        endpoint="127.0.0.1:8000",
    )

    assert (await sampler.sample(0.0)).processes == (said,)


CHILD = "import sys; sys.stdin.read()"
PARENT = f"""
import socket, subprocess, sys
listening = socket.create_server(("127.0.0.1", 0))
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
print(listening.getsockname()[1], child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def port_and_child():
    """A process that listens and has a child: the port, and the child's pid."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        port, pid = parent.stdout.readline().split()
        yield int(port), int(pid)
        parent.stdin.close()


async def test_a_real_server_and_its_child(port_and_child):
    """On this machine's /proc: the child of a process that listens serves its service."""
    port, pid = port_and_child
    listed = [replace(identify(who, Path("/proc")), tapped=True) for who in (pid, os.getpid())]
    sampler = ServingSampler(
        lambda: [EngineConfig(service="chat", url=f"http://localhost:{port}")],
        proc_root=Path("/proc"),
        cgroup_root=Path("/sys/fs/cgroup"),
        processes=lambda: listed,
        reading_of=lambda _: None,
    )

    assert {p.pid: p.service for p in (await sampler.sample(0.0)).processes} == {pid: "chat"}


async def test_turns_are_seldom_once_there_are_processes(node):
    """The first process of a node is looked at within a second, and nothing is in a hurry then."""
    listed = []
    sampler = sampler_on(node, listed)
    periods_s = [sampler.period_s]
    for now_s in (0.0, 1.0):
        await sampler.sample(now_s)
        periods_s.append(sampler.period_s)
        listed.append(gpu_process(10))

    assert [1.0, 1.0, 5.0] == periods_s
