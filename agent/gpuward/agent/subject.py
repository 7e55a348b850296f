"""What a finding is about, filled in with all that the window knows of the GPU and the process."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpuward.agent.model import Process, Subject
from gpuward.agent.probe_process import is_worker
from gpuward.agent.remembered import once_an_inventory

if TYPE_CHECKING:
    from gpuward.agent.window import Window

NOBODY = Process(key="", pid=0, start_ticks=0)


@once_an_inventory
def subject_of(window: Window, *, gpu: str = "", process: str = "", pid: int = 0) -> Subject:
    """Return the subject for ``gpu`` and, by its key or else its host pid, one process.

    Unknown names are kept as given: a process may be gone before its error is judged.  A service is
    named only when all that the subject covers serve it: every process of the key, or of the GPU.
    """
    serial = next((known.serial for known in window.gpus if known.uuid == gpu), "")
    members = _members(window, gpu, process, pid)
    known = members[0] if members and (process or pid) else NOBODY
    services = {member.service for member in members}
    return Subject(
        gpu=gpu,
        gpu_serial=serial,
        process=process or known.key,
        pid=pid or known.pid,
        unit=known.unit,
        pod=known.pod,
        container=known.container,
        engine=known.engine,
        model=known.model,
        service=services.pop() if len(services) == 1 else "",
    )


@once_an_inventory
def subject_of_replica(window: Window, service: str, endpoint: str) -> Subject:
    """Return the subject for a replica, with its process and GPU when it is known to have one."""
    serving = [
        process
        for process in window.processes
        if process.service == service and process.endpoint == endpoint
    ]
    if len(serving) != 1 or len(serving[0].gpus) > 1:
        return Subject(service=service, endpoint=endpoint)
    process = serving[0]
    gpu = process.gpus[0] if process.gpus else ""
    about = subject_of(window, gpu=gpu, process=process.key, pid=process.pid)
    return replace(about, service=service, endpoint=endpoint)


def _members(window: Window, gpu: str, key: str, pid: int) -> list[Process]:
    if not key and not pid:
        # A probe worker of ours serves nobody, and takes from nobody that it serves the GPU.
        return [p for p in window.processes if gpu in (*p.gpus, *p.slices) and not is_worker(p)]
    found = [
        process
        for process in window.processes
        if (not key or process.key == key) and (not pid or process.pid == pid)
    ]
    # Several processes may go by one key, each on a GPU of its own.
    return [process for process in found if gpu in process.gpus] or found
