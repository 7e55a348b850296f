"""Say who a process is by a name that survives its restart.

A pid means nothing tomorrow, so series and findings go by a key: the systemd unit, else the
Kubernetes pod, else the container, else engine and model, else the program.  Command lines hold
secrets (``--api-key``), and environments do: of them only the values of the flags and variables
listed here and in ``engine_port`` are ever kept, of paths only the last part.

Layouts: proc_pid_stat(5), cgroups(7).  Reading another process's command line can block while that
process hangs in the driver, so ``identify`` runs in the NVML child, never on the agent's event
loop; ``place`` reads nothing that can.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from gpuward.agent import proc_file
from gpuward.agent.cgroup_placement import Placement, parse_cgroup, safe_name
from gpuward.agent.engine_port import Listening, listening, listening_in, variables
from gpuward.agent.model import Process
from gpuward.agent.model_name import model_name
from gpuward.agent.pod_names import POD_LOGS, pod_name
from gpuward.agent.python_command_line import what_runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

LIMIT_BYTES = 65_536
# An engine's GPU process is a child or grandchild of the one with the flags.
ANCESTORS = 3
# The key of a pid that the driver lists and /proc does not know.
UNIDENTIFIED = "unidentified"
# include/linux/proc_ns.h: PROC_PID_INIT_INO.
INITIAL_PID_NAMESPACE = "pid:[4026531836]"

# What a worker's title ends in: data, pipeline, tensor, context and expert parallel.
_RANK = re.compile(r"(?:_(?:DP|PP|PCP|TP|DCP|EP)\d{1,5})+")
# Zombie, dead: states of proc_pid_stat(5).
DEAD = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class Engine:
    """How an inference engine shows in a command line, and which flags name its model."""

    name: str
    programs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    # What its workers call themselves by setproctitle.
    title: str = ""
    model_flags: tuple[str, ...] = ()
    # The word whose next argument is the model.
    model_after: str = ""


ENGINES = (
    Engine(
        "vllm",
        programs=("vllm",),
        modules=("vllm.",),
        title="VLLM::",
        model_flags=("--served-model-name", "--model"),
        model_after="serve",
    ),
    Engine(
        "sglang",
        programs=("sglang",),
        modules=("sglang.",),
        title="sglang::",
        model_flags=("--served-model-name", "--model-path", "--model"),
    ),
    Engine(
        "tgi",
        programs=("text-generation-launcher", "text-generation-router", "text-generation-server"),
        model_flags=("--model-id",),
        model_after="serve",
    ),
    Engine("trtllm", programs=("trtllm-serve",), model_after="serve"),
    Engine("triton", programs=("tritonserver",), model_flags=("--load-model",)),
    # Triton's Python backend, a process for each instance of a model: torch, with a cache each.
    Engine("triton-python", programs=("triton_python_backend_stub",)),
    Engine("tensorrt", programs=("trtexec",)),
    Engine(
        "llama.cpp",
        programs=("llama-server",),
        modules=("llama_cpp.",),
        model_flags=("--alias", "--model", "-m", "--hf-repo", "-hf"),
    ),
)
TITLES = tuple(engine.title for engine in ENGINES if engine.title)


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that identify a process."""

    comm: str
    state: str
    parent: int
    start_ticks: int


def identify(pid: int, proc_root: Path, pod_logs: Path = POD_LOGS) -> Process | None:
    """Return who ``pid`` is, without GPUs, or ``None`` when it is gone; reads command lines."""
    found = place(pid, proc_root)
    if found is None:
        return None
    words = _words(f"{proc_root}/{pid}")
    engine, model, page = _engine(pid, words, proc_root)
    placement = Placement(found.unit, found.pod, found.container)
    key = _key(placement, engine, model) or _script(found.key, words)
    rank = parse_rank(words)
    pod = pod_name(found.pod, pod_logs) if found.pod else ""
    return replace(
        found, key=key, engine=engine, model=model, rank=rank, pod_name=pod, **page._asdict()
    )


def place(pid: int, proc_root: Path) -> Process | None:
    """Return what is known of ``pid`` without its command line, which never blocks."""
    folder = f"{proc_root}/{pid}"
    stat = stat_of(pid, proc_root)
    if stat is None or (stat.state in DEAD and not _has_threads(folder)):
        return None
    placement = parse_cgroup(_read(f"{folder}/cgroup").decode(errors="replace"))
    return Process(
        key=_key(placement) or _program(folder, stat),
        pid=pid,
        start_ticks=stat.start_ticks,
        unit=placement.unit,
        pod=placement.pod,
        container=placement.container,
    )


def sees_every_pid(proc_root: Path) -> bool:
    """Return whether ``proc_root`` is of the host's PID namespace: the driver's pids are its."""
    try:
        return str((proc_root / "self" / "ns" / "pid").readlink()) == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def _has_threads(folder: str) -> bool:
    """Return whether other threads live on after the first has ended."""
    try:
        with os.scandir(f"{folder}/task") as threads:
            return sum(1 for _ in islice(threads, 2)) > 1
    except OSError:
        return False


def stat_of(pid: int, proc_root: Path) -> Stat | None:
    """Return what ``stat`` says, ``None`` when the process is gone."""
    try:
        return parse_stat(_read(f"{proc_root}/{pid}/stat").decode(errors="replace"))
    except ValueError:
        return None


def parse_stat(text: str) -> Stat:
    """Return the identifying fields; the name may hold spaces and parentheses.

    Raises ``ValueError`` for anything that is not a stat line.
    """
    head, closing, tail = text.rpartition(")")
    fields = tail.split()
    # Field 3 (state) is the first after the name; field 4 the parent, field 22 the start.
    if not closing or len(fields) < 20:  # noqa: PLR2004 - said above
        raise ValueError("not a line of /proc/PID/stat")
    return Stat(head.partition("(")[2], fields[0], int(fields[1]), int(fields[19]))


def parse_command_line(words: Sequence[str]) -> tuple[str, str]:
    """Return engine and model, each empty where ``words`` do not say; nothing else is kept."""
    for engine in ENGINES:
        if _is_engine(engine, words):
            return engine.name, next(filter(None, _models(engine, words)), "")
    return "", ""


def _is_engine(engine: Engine, words: Sequence[str]) -> bool:
    program = words[0].rpartition("/")[2] if words else ""
    if engine.title and program.startswith(engine.title):
        return True
    if not program.startswith("python"):
        return program in engine.programs
    runs = what_runs(words)
    script = runs.script.rpartition("/")[2]
    return script in engine.programs or runs.module.startswith(engine.modules)


def parse_rank(words: Sequence[str]) -> str:
    """Return a worker's place among those of its model, as it calls itself: TP1, DP0_TP1."""
    title = words[0] if words else ""
    if not title.startswith(TITLES):
        return ""
    found = _RANK.search(title)
    return found[0].lstrip("_") if found else ""


def _models(engine: Engine, words: Sequence[str]) -> Iterator[str]:
    for flag in engine.model_flags:
        for place, word in enumerate(words):
            if word == flag and place + 1 < len(words):
                yield model_name(words[place + 1])
            elif word.startswith(f"{flag}="):
                yield model_name(word.partition("=")[2])
    for word, following in pairwise(words):
        if engine.model_after and word == engine.model_after:
            yield model_name(following)


def _engine(pid: int, words: Sequence[str], proc_root: Path) -> tuple[str, str, Listening]:
    """Return engine, model and page of the process, else of the nearest ancestor that has them."""
    folder = f"{proc_root}/{pid}"
    engine, model = parse_command_line(words)
    told = listening_in(engine, words)
    for _ in range(ANCESTORS):
        pid = _parent(pid, proc_root)
        if (engine and model and told.port) or pid <= 1:
            break
        words = _words(f"{proc_root}/{pid}")
        above, model_above = parse_command_line(words)
        if above and engine in ("", above):
            more = listening_in(above, words)
            engine, model = above, model or model_above
            told = Listening(told.port or more.port, told.is_tls or more.is_tls)
    return engine, model, listening(engine, told, _environment(folder, variables(engine)))


def _environment(folder: str, wanted: Collection[str]) -> dict[str, str]:
    """Return the variables that are wanted; of those, too, none is kept but for a port."""
    if not wanted:
        return {}
    entries = _read(f"{folder}/environ").decode(errors="replace").split("\0")
    named = (entry.partition("=") for entry in entries)
    return {name: value for name, _, value in named if name in wanted}


def _parent(pid: int, proc_root: Path) -> int:
    stat = stat_of(pid, proc_root)
    return 0 if stat is None else stat.parent


def _key(placement: Placement, engine: str = "", model: str = "") -> str:
    if placement.unit:
        return placement.unit
    if placement.pod:
        return f"pod:{placement.pod}"
    if placement.container:
        return f"container:{placement.container}"
    return f"{engine}:{model}" if engine and model else engine


def _program(folder: str, stat: Stat) -> str:
    try:
        # Without a path object, as all here.
        target = os.readlink(f"{folder}/exe")  # noqa: PTH115
        name = target.rpartition("/")[2].removesuffix(" (deleted)")
    except OSError:
        # A kernel thread, or another user's process without CAP_SYS_PTRACE.
        name = stat.comm
    return safe_name(name) or "unknown"


def _script(program: str, words: Sequence[str]) -> str:
    """Return what a Python interpreter runs, a module or a file's name, else ``program``."""
    if not program.startswith("python"):
        return program
    runs = what_runs(words)
    file = runs.script.rpartition("/")[2]
    return safe_name(runs.module or (file if file.endswith(".py") else "")) or program


def _words(folder: str) -> list[str]:
    data = _read(f"{folder}/cmdline")
    return [word.decode(errors="replace") for word in data.split(b"\0") if word]


def _read(path: str) -> bytes:
    """Return the file's content, empty where it may not be read or the process is gone."""
    try:
        return proc_file.read(path, LIMIT_BYTES)
    except OSError:
        return b""
