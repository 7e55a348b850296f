"""Judge whether the agent can see everything on this machine, and say how to mend what hides it.

Pure: facts come in, lines go out.  A line that is not OK always says what to do, in one line that
can be pasted or followed at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.doctor_check import Check, Level, Machine
from gpuward.agent.doctor_checks_gpus import gpu_checks
from gpuward.agent.doctor_facts import CAP_SYS_PTRACE, CAP_SYSLOG
from gpuward.agent.model import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import ComponentHealth, Process, Snapshot

TAP_MODE = 0o3773
TAP_GROUP = "gpuward"
MIB = 1 << 20
# The spool and an hour of history take some tens of MiB.
LITTLE_ROOM_BYTES = 256 * MIB
NO_ROOM_BYTES = 64 * MIB
PROBES = "sampler.probe"
PROFILERS = frozenset({"nsys", "ncu", "nsys-launcher"})
DCGM = frozenset({"dcgm-exporter", "nv-hostengine"})


def checks(snapshot: Snapshot, machine: Machine) -> tuple[Check, ...]:
    """Return every check, in the order in which to mend."""
    return (
        *gpu_checks(snapshot, machine),
        *_kernel_log(snapshot, machine),
        *_processes(machine),
        *_tap_directory(machine),
        *_taps(snapshot, machine),
        *_agent(snapshot, machine),
        *_probes(machine),
        *_coordinator(machine),
        *_disk(machine),
        *_clock(machine),
        *_others(machine),
    )


def _kernel_log(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    log = _component(snapshot, "sampler.kmsg")
    if log is not None and not log.reason:
        yield Check(Level.OK, "kernel log", "XIDs are read")
        return
    reason = log.reason if log is not None else "it was not read"
    has_right = machine.capabilities >> CAP_SYSLOG & 1
    mend = (
        "set [kmsg] path to the kernel's log; in a container mount /dev/kmsg"
        if has_right
        else "run as root or give CAP_SYSLOG, as systemd/gpuward-agent.service does"
    )
    yield Check(Level.FAIL, "kernel log", f"{reason}: XIDs are seen by NVML's events alone", mend)


def _processes(machine: Machine) -> Iterator[Check]:
    if not machine.sees_every_pid:
        yield Check(
            Level.FAIL,
            "processes",
            "this is a PID namespace of its own: the driver's pids mean nothing here",
            "run on the host; in Kubernetes hostPID: true",
        )
    elif machine.capabilities >> CAP_SYS_PTRACE & 1:
        yield Check(Level.OK, "processes", "those of every user can be named")
    elif machine.hides_processes:
        yield Check(
            Level.FAIL,
            "processes",
            "/proc is mounted with hidepid: other users' processes are hidden",
            "run as root or give CAP_SYS_PTRACE",
        )
    else:
        yield Check(
            Level.WARN,
            "processes",
            "no CAP_SYS_PTRACE: where a hung call waits in the kernel is not shown",
            "run as root or give CAP_SYS_PTRACE, as systemd/gpuward-agent.service does",
        )


def _tap_directory(machine: Machine) -> Iterator[Check]:
    path, folder = machine.tap_directory, machine.tap_folder
    mend = f"install -d -m {TAP_MODE:o} -o root -g {TAP_GROUP} {path}"
    if folder is None:
        yield Check(Level.FAIL, "tap directory", f"{path} is not there: no tap can publish", mend)
        return
    wrong = [
        words
        for is_wrong, words in (
            (folder.mode != TAP_MODE, f"mode {folder.mode:o}, not {TAP_MODE:o}"),
            (folder.uid != 0, f"owner {folder.uid}, not root"),
            (folder.group != TAP_GROUP, f"group {folder.group}, not {TAP_GROUP}"),
        )
        if is_wrong
    ]
    if wrong:
        yield Check(Level.WARN, "tap directory", f"{path}: {'; '.join(wrong)}", mend)
    else:
        yield Check(Level.OK, "tap directory", path)


def _taps(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    taps = _component(snapshot, "sampler.tap")
    if taps is not None and taps.reason:
        mend = f"run as root, or in the group {TAP_GROUP}, as systemd/gpuward-agent.service does"
        yield Check(Level.FAIL, "taps", f"{taps.reason}: no allocator is seen", mend)
        return
    blind = [process for process in snapshot.processes if process.gpus and not process.tapped]
    for process in blind:
        yield _without_tap(process, machine.torch.get(process.pid))
    tapped = sum(process.tapped for process in snapshot.processes)
    if tapped:
        yield Check(Level.OK, "taps", f"{tapped} processes show their allocator")


def _component(snapshot: Snapshot, name: str) -> ComponentHealth | None:
    return next((h for h in snapshot.components if h.component == name), None)


def _without_tap(process: Process, has_torch: bool | None) -> Check:  # noqa: FBT001 - a fact
    about = f"{process.key} (pid {process.pid})"
    if has_torch is False:
        return Check(Level.OK, "taps", f"{about} has no torch: its allocator cannot be seen")
    unsure = "" if has_torch else ", if it is torch"
    return Check(
        Level.WARN,
        "taps",
        f"{about} has no tap",
        f"pip install gpuward-tap where it runs, or start it by `gpuward tap run -- ...`{unsure}",
    )


def _agent(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    if not machine.agent_trouble:
        yield Check(Level.OK, "agent", f"answers at {machine.agent}")
        yield from _less_than_we(snapshot, machine)
        return
    yield Check(Level.WARN, "agent", machine.agent_trouble, "systemctl enable --now gpuward-agent")
    for address in machine.taken_ports:
        yield Check(
            Level.FAIL,
            "ports",
            f"{address} is taken by another program",
            f"stop what listens there (ss -ltnp), or choose another address than {address}",
        )


def _less_than_we(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    """Yield what the running agent cannot, and a look by this user can."""
    for part in machine.agent_parts:
        ours = _component(snapshot, part.component)
        if part.component != PROBES and part.reason and (ours is None or not ours.reason):
            yield Check(
                Level.FAIL,
                "agent",
                f"its {part.component}: {part.reason}",
                "see journalctl -u gpuward-agent; run it as systemd/gpuward-agent.service does",
            )


def _probes(machine: Machine) -> Iterator[Check]:
    probes = next((part for part in machine.agent_parts if part.component == PROBES), None)
    if probes is None:
        return
    if probes.result is Result.OK:
        yield Check(Level.OK, "probes", probes.reason or "measure")
    else:
        mend = (
            "systemctl status 'gpuward-probe@*' says why; [probes] mode = \"cpu\" leaves GPUs alone"
        )
        yield Check(Level.WARN, "probes", probes.reason, mend)


def _coordinator(machine: Machine) -> Iterator[Check]:
    if not machine.coordinator:
        yield Check(
            Level.WARN,
            "coordinator",
            "none is configured: findings stay on this node",
            'set [coordinator] address = "HOST:9479"',
        )
    elif machine.coordinator_trouble:
        yield Check(
            Level.FAIL,
            "coordinator",
            f"{machine.coordinator}: {machine.coordinator_trouble}",
            "see that it runs, and that a firewall lets this node through to that port",
        )
    else:
        yield Check(Level.OK, "coordinator", f"{machine.coordinator} can be reached")


def _disk(machine: Machine) -> Iterator[Check]:
    free, path = machine.state_free_bytes, machine.state_directory
    if free is None or free >= LITTLE_ROOM_BYTES:
        yield Check(Level.OK, "state folder", path)
        return
    level = Level.FAIL if free < NO_ROOM_BYTES else Level.WARN
    mend = "make room there, or set [state] directory to a larger disk"
    yield Check(level, "state folder", f"{path} has {free // MIB} MiB left", mend)


def _clock(machine: Machine) -> Iterator[Check]:
    if machine.clock_is_synchronised is False:
        yield Check(
            Level.WARN,
            "clock",
            "is not synchronised: times of incidents on several nodes do not fit together",
            "systemctl enable --now chrony, or systemd-timesyncd",
        )
    elif machine.clock_is_synchronised:
        yield Check(Level.OK, "clock", "is synchronised")


def _others(machine: Machine) -> Iterator[Check]:
    profilers = sorted(PROFILERS & machine.programs)
    if profilers:
        yield Check(
            Level.WARN,
            "other tools",
            f"{', '.join(profilers)} may hold the profiling counters: activity can be absent",
            "nothing to mend if you are profiling now",
        )
    dcgm = sorted(DCGM & machine.programs)
    if dcgm:
        yield Check(Level.OK, "other tools", f"{', '.join(dcgm)}: shares the driver, no conflict")
