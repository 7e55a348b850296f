"""Who a process is: a key that survives its restart, and not one word that could be a secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpuward.agent.cgroup_placement import Placement, parse_cgroup
from gpuward.agent.process_identity import (
    Stat,
    identify,
    parse_command_line,
    parse_rank,
    parse_stat,
    place,
    sees_every_pid,
)

POD = "0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a001"
CONTAINER = "f3a9" * 16
SECRET = "canary-7f3e"


@pytest.mark.parametrize(
    ("text", "placement"),
    [
        pytest.param("0::/system.slice/vllm.service\n", Placement("vllm.service"), id="unit"),
        pytest.param(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vllm.service\n",
            Placement("vllm.service"),
            id="unit of a user",
        ),
        pytest.param(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n",
            Placement(),
            id="a login session names nobody",
        ),
        pytest.param("0::/user.slice/user-0.slice/session-3.scope\n", Placement(), id="shell"),
        pytest.param("0::/system.slice/engine@7.service\n", Placement("engine@7.service"), id="@"),
        pytest.param(
            "0::/kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{POD.replace('-', '_')}.slice/"
            f"cri-containerd-{CONTAINER}.scope\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="Kubernetes, systemd driver",
        ),
        pytest.param(
            f"0::/kubepods/burstable/pod{POD}/{CONTAINER}\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="Kubernetes, cgroupfs driver",
        ),
        pytest.param(
            f"0::/system.slice/containerd.service/kubepods-pod{POD.replace('-', '_')}.slice\n",
            Placement("", POD, ""),
            id="the runtime's unit is not the application's",
        ),
        pytest.param(
            f"0::/system.slice/docker-{CONTAINER}.scope\n",
            Placement("", "", "f3a9f3a9f3a9"),
            id="Docker",
        ),
        pytest.param(
            "11:memory:/system.slice/vllm.service\n1:name=systemd:/system.slice/vllm.service\n0::/\n",
            Placement("vllm.service"),
            id="cgroup v1",
        ),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/crio-{CONTAINER}.scope"
            "/container\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="CRI-O, with a cgroup of the container's own below",
        ),
        pytest.param(
            "0::/system.slice/containerd.service/kubepods-burstable-pod"
            f"{POD.replace('-', '_')}.slice:cri-containerd:{CONTAINER}\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="containerd under a systemd driver that it was not told of",
        ),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod{'ab12' * 8}.slice/cri-containerd-{CONTAINER}.scope\n",
            Placement("", "ab12" * 8, "f3a9f3a9f3a9"),
            id="a pod of a file on the node",
        ),
        pytest.param(
            f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod"
            f"{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="Kubernetes in Docker",
        ),
        pytest.param(
            f"4:memory:/kubepods/burstable/pod{POD}/{CONTAINER}\n"
            f"3:cpuset:/kubepods/burstable/pod{POD}/{'0' * 64}\n"
            f"1:name=systemd:/kubepods/burstable/pod{POD}/{CONTAINER}\n",
            Placement("", POD, "f3a9f3a9f3a9"),
            id="Kubernetes, cgroup v1: of other controllers nothing is read",
        ),
        pytest.param(
            f"12:devices:/docker/{CONTAINER}\n1:name=systemd:/docker/{CONTAINER}\n",
            Placement("", "", "f3a9f3a9f3a9"),
            id="Docker, cgroup v1",
        ),
        pytest.param(
            f"0::/docker/{'1' * 64}/docker/{CONTAINER}\n",
            Placement("", "", "f3a9f3a9f3a9"),
            id="Docker in Docker: the inner one",
        ),
        pytest.param(
            f"0::/system.slice/docker.service/docker/{CONTAINER}\n",
            Placement("", "", "f3a9f3a9f3a9"),
            id="Docker's unit is nobody's",
        ),
        pytest.param(
            f"0::/system.slice/vllm.service/libpod-payload-{CONTAINER}\n",
            Placement("vllm.service", "", "f3a9f3a9f3a9"),
            id="podman in the application's unit",
        ),
        pytest.param(
            f"0::/machine.slice/libpod-{CONTAINER}.scope/container\n",
            Placement("", "", "f3a9f3a9f3a9"),
            id="podman",
        ),
        pytest.param(
            "0::/system.slice/vllm.service (deleted)\n",
            Placement("vllm.service"),
            id="a cgroup that is gone",
        ),
        pytest.param(
            f"0::/system.slice/docker-{CONTAINER[:63]}.scope\n", Placement(), id="a digit short"
        ),
        pytest.param(f"0::/podcast{CONTAINER[:32]}/x\n", Placement(), id="pod of another word"),
        pytest.param("0::/\n", Placement(), id="root"),
        pytest.param("", Placement(), id="empty"),
        pytest.param("garbage", Placement(), id="garbage"),
        pytest.param(
            "0::/system.slice/a\x1b[31m b.service\n", Placement("a__31m_b.service"), id="hostile"
        ),
    ],
)
def test_parse_cgroup(text, placement):
    """A cgroup path names a unit, or a pod and container."""
    assert parse_cgroup(text) == placement


@pytest.mark.parametrize(
    ("command", "engine", "model"),
    [
        pytest.param(
            "/usr/bin/python3 /usr/local/bin/vllm serve meta-llama/Llama-3.1-8B --port 8000",
            "vllm",
            "meta-llama/Llama-3.1-8B",
            id="vllm serve",
        ),
        pytest.param(
            "python3 -m vllm.entrypoints.openai.api_server --model=/models/llama",
            "vllm",
            "llama",
            id="vllm module",
        ),
        pytest.param(
            "vllm serve /models/x --served-model-name chat",
            "vllm",
            "chat",
            id="the name that users call comes first",
        ),
        pytest.param("VLLM::EngineCore_0", "vllm", "", id="vllm worker's title"),
        pytest.param(
            "python -m sglang.launch_server --model-path qwen/Qwen2.5-7B",
            "sglang",
            "qwen/Qwen2.5-7B",
            id="sglang",
        ),
        pytest.param("text-generation-launcher --model-id bigcode/x", "tgi", "bigcode/x", id="tgi"),
        pytest.param("trtllm-serve org/model --port 1", "trtllm", "", id="trtllm without serve"),
        pytest.param("tritonserver --model-repository=/m", "triton", "", id="triton"),
        pytest.param("llama-server -m /m/a.gguf", "llama.cpp", "a.gguf", id="llama.cpp"),
        pytest.param(
            "python3 -u -X dev /opt/bin/vllm serve org/m", "vllm", "org/m", id="options before"
        ),
        pytest.param("sglang serve --model-path a/b", "sglang", "a/b", id="sglang's own command"),
        pytest.param(
            "python -m llama_cpp.server --model /m/a.gguf",
            "llama.cpp",
            "a.gguf",
            id="llama in Python",
        ),
        pytest.param("llama-server -hf org/m:Q4", "llama.cpp", "org/m:Q4", id="llama's own hub"),
        pytest.param("tritonserver --load-model=resnet", "triton", "resnet", id="one of Triton's"),
        pytest.param(
            "/opt/b/triton_python_backend_stub /models/m/1/model.py triton_shm",
            "triton-python",
            "",
            id="Triton's Python backend",
        ),
        pytest.param("trtexec --loadEngine=/m/x", "tensorrt", "", id="tensorrt"),
        pytest.param("python x.py -m vllm.entrypoints", "", "", id="a script's own argument"),
        pytest.param("python train.py --model secret", "", "", id="no engine, no model"),
        pytest.param("echo vllm serve x", "", "", id="an argument is no program"),
        pytest.param("vllm serve --model", "vllm", "", id="flag without a value"),
        pytest.param(
            f"vllm serve --model s3://user:{SECRET}@host/x",
            "vllm",
            "",
            id="address with a password",
        ),
        pytest.param(
            f"vllm serve https://{SECRET}@host/x --served-model-name a {SECRET}",
            "vllm",
            "a",
            id="names beyond the first are not kept",
        ),
        pytest.param(f"vllm serve /{SECRET}/llama", "vllm", "llama", id="where the model lies"),
        pytest.param(f"vllm serve --api-key {SECRET} m", "vllm", "", id="key before the model"),
        pytest.param("", "", "", id="empty"),
    ],
)
def test_parse_command_line(command, engine, model):
    """Engine and model come from listed flags; whatever else stands there is not kept."""
    found = parse_command_line(command.split())

    assert found == (engine, model)
    assert SECRET not in "".join(found)


@pytest.mark.parametrize(
    ("command", "rank"),
    [
        pytest.param("VLLM::Worker_TP1", "TP1", id="tensor parallel"),
        pytest.param("VLLM::Worker_DP0_PP1_TP3_EP3", "DP0_PP1_TP3_EP3", id="all kinds"),
        pytest.param("VLLM::EngineCore_DP2", "DP2", id="engine core"),
        pytest.param("sglang::scheduler_DP0_TP1", "DP0_TP1", id="sglang"),
        pytest.param("VLLM::EngineCore", "", id="alone"),
        pytest.param("VLLM::EngineCore_0", "", id="a number is no rank"),
        pytest.param("python serve_TP1.py", "", id="a name like one"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_rank(command, rank):
    """Workers of one model tell themselves apart in their titles."""
    assert rank == parse_rank(command.split())


def test_ranks_of_one_model_have_one_name(proc):
    proc.add(10, command="vllm serve org/m -tp 2")
    proc.add(11, command="VLLM::Worker_TP0", parent=10)
    proc.add(12, command="VLLM::Worker_TP1", parent=10)

    found = [identify(pid, proc.root) for pid in (11, 12)]

    assert [("vllm:org/m", "TP0"), ("vllm:org/m", "TP1")] == [(one.key, one.rank) for one in found]


@pytest.mark.parametrize(
    ("server", "worker", "port"),
    [
        pytest.param("vllm serve m --port 9001", "VLLM::EngineCore", 9_001, id="the server's flag"),
        pytest.param("vllm serve m", "VLLM::EngineCore", 8_000, id="the engine's default"),
        pytest.param(
            "python -m sglang.launch_server --model-path m --port=9001",
            "sglang::scheduler_TP1",
            9_001,
            id="sglang",
        ),
        pytest.param("bash run.sh --port 9001", "python train.py --port 9002", 0, id="no engine"),
    ],
)
def test_the_port_of_a_page(proc, server, worker, port):
    """Which port that is, a worker's server knows; of no engine nothing is kept."""
    proc.add(40, command=server)
    proc.add(41, command=worker, parent=40)

    assert identify(41, proc.root).port == port


def test_a_python_backend_is_not_its_server(proc):
    """Its server is C++ and blind by nature; what runs Python can be seen."""
    proc.add(10, command="tritonserver --model-repository=/m")
    proc.add(11, command="triton_python_backend_stub /m/a/1/model.py", parent=10)

    assert "triton-python" == identify(11, proc.root).engine


def test_parse_stat():
    """The name may hold anything, its own parentheses included."""
    fields = " ".join(str(number) for number in range(5, 53))

    assert parse_stat(f"77 (a) b (c) D 1 {fields}") == Stat("a) b (c", "D", 1, 22)


@pytest.mark.parametrize("text", ["", "77", "77 (x) S 1", "77 (x) S a " + "0 " * 40])
def test_broken_stat(text):
    """What is no stat line is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - any wording
        parse_stat(text)


class Proc:
    """A tree like /proc."""

    def __init__(self, root):
        self.root = root

    def add(
        self,
        pid,
        *,
        command="",
        cgroup="0::/\n",
        comm="python3",
        parent=1,
        exe=None,
        state="S",
        threads=1,
    ):
        folder = self.root / str(pid)
        folder.mkdir()
        fields = " ".join(["0"] * 17 + ["4711"] + ["0"] * 30)
        (folder / "stat").write_text(f"{pid} ({comm}) {state} {parent} {fields}\n")
        for thread in range(threads):
            (folder / "task" / str(pid + thread)).mkdir(parents=True)
        (folder / "cgroup").write_text(cgroup)
        (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
        if exe:
            (folder / "exe").symlink_to(exe)


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


@pytest.mark.parametrize(
    ("about", "key"),
    [
        pytest.param(
            {"cgroup": "0::/system.slice/vllm.service\n", "command": "vllm serve m"},
            "vllm.service",
            id="the unit comes first",
        ),
        pytest.param(
            {"cgroup": f"0::/kubepods/pod{POD}/{CONTAINER}\n"}, f"pod:{POD}", id="then the pod"
        ),
        pytest.param(
            {"cgroup": f"0::/docker/{CONTAINER}\n"}, "container:f3a9f3a9f3a9", id="the container"
        ),
        pytest.param({"command": "vllm serve org/m"}, "vllm:org/m", id="engine and model"),
        pytest.param({"command": "tritonserver"}, "triton", id="the engine alone"),
        pytest.param({"exe": "/usr/bin/python3.11"}, "python3.11", id="the program"),
        pytest.param({"exe": "/usr/bin/python3.11 (deleted)"}, "python3.11", id="upgraded since"),
        pytest.param({"comm": "my engine)"}, "my_engine_", id="the name, made harmless"),
    ],
)
def test_key(proc, about, key):
    """The first of unit, pod, container, engine and program that there is."""
    proc.add(50, **about)

    assert identify(50, proc.root).key == key


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param(f"serving_chat-0_{POD}", "serving/chat-0", id="of the pod"),
        pytest.param(f"serving_chat-0_{POD[:-1]}0", "", id="of another pod"),
        pytest.param(POD, "", id="of no pod"),
        pytest.param(f"a_b_c_{POD}", "", id="not as kubelet names it"),
        pytest.param(None, "", id="no such folder"),
    ],
)
def test_a_pods_name_is_that_of_its_logs(proc, tmp_path, folder, name):
    proc.add(50, cgroup=f"0::/kubepods/pod{POD}/{CONTAINER}\n")
    logs = tmp_path / "pods"
    if folder is not None:
        (logs / folder).mkdir(parents=True)

    found = identify(50, proc.root, logs)

    assert (found.pod_name, found.pod, found.key) == (name, POD, f"pod:{POD}")


def test_worker_has_its_servers_model(proc):
    """A worker's title says the engine only; the model is in its parent's command line."""
    proc.add(10, command="vllm serve org/m --api-key " + SECRET)
    proc.add(11, command="python -c from_multiprocessing", parent=10)
    proc.add(12, command="VLLM::Worker_TP0", parent=11)

    found = identify(12, proc.root)

    assert (found.engine, found.model, found.key) == ("vllm", "org/m", "vllm:org/m")
    assert found.start_ticks == 4711
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        pytest.param("python -m my.server --port 1", "my.server", id="a module"),
        pytest.param("python -u /srv/app/serve.py --api-key " + SECRET, "serve.py", id="a file"),
        pytest.param("python -c " + SECRET + ".py", "python3.11", id="code is never a name"),
        pytest.param("python -uc " + SECRET + ".py", "python3.11", id="nor behind other options"),
        pytest.param("python -Im my.server", "my.server", id="a module behind other options"),
        pytest.param(
            "python -W error -X dev -Xtracemalloc --help-all a.py", "a.py", id="options with words"
        ),
        pytest.param("python - " + SECRET + ".py", "python3.11", id="a script from a pipe"),
        pytest.param("python /srv/a.py -m " + SECRET, "a.py", id="the script's own -m"),
        pytest.param("python /srv/a -m " + SECRET, "python3.11", id="of a script without a name"),
        pytest.param("python /srv/a " + SECRET + ".py", "python3.11", id="the script's own file"),
        pytest.param("python", "python3.11", id="nothing more is known"),
    ],
)
def test_what_an_interpreter_runs_names_it(proc, command, key):
    proc.add(50, exe="/usr/bin/python3.11", command=command)

    assert key == identify(50, proc.root).key
    assert "python3.11" == place(50, proc.root).key


def test_a_place_needs_no_command_line(proc):
    """Reading it would block on a process that hangs in the driver."""
    proc.add(50, exe="/usr/bin/vllm", command="vllm serve org/m")

    found = place(50, proc.root)

    assert ("vllm", "", 4711) == (found.key, found.engine, found.start_ticks)


def test_gone_process(proc):
    """A process that ended is nobody."""
    assert identify(50, proc.root) is None


@pytest.mark.parametrize(
    ("state", "threads", "is_there"),
    [
        pytest.param("D", 1, True, id="waits for the driver"),
        pytest.param("Z", 1, False, id="ended, and nobody has asked how"),
        pytest.param("X", 1, False, id="dead"),
        pytest.param("Z", 2, True, id="its first thread has ended, others run"),
    ],
)
def test_a_zombie_is_nobody(proc, state, threads, is_there):
    """The driver may still list it: what it holds is nobody's."""
    proc.add(50, command="vllm serve m", state=state, threads=threads)

    assert (identify(50, proc.root) is not None) is is_there
    assert (place(50, proc.root) is not None) is is_there


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        pytest.param("pid:[4026531836]", True, id="the host's"),
        pytest.param("pid:[4026532198]", False, id="a container's"),
        pytest.param(None, False, id="nobody knows"),
    ],
)
def test_whose_pids_are_seen(tmp_path, link, expected):
    """The driver's pids are those of the first PID namespace, whose inode is fixed."""
    folder = tmp_path / "self" / "ns"
    folder.mkdir(parents=True)
    if link:
        (folder / "pid").symlink_to(link)

    assert sees_every_pid(tmp_path) is expected


def test_this_process():
    """The real /proc, without root."""
    found = identify(os.getpid(), Path("/proc"))

    assert found.pid == os.getpid()
    assert found.start_ticks > 0
    assert found.key
