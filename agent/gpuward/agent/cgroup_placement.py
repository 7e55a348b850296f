"""Read out of a process's cgroups where it belongs: systemd unit, Kubernetes pod, container.  Pure.

Layouts of systemd, of kubelet with its two drivers, and of containerd, CRI-O, Docker and podman,
with cgroup v2 and v1 (cgroups(7)).  What is there names things that outlive a restart: a unit its
service, a pod's UID its containers; a container's id lasts until somebody makes it anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTAINER_ID_DIGITS = 12
CONTROLLERS = ("", "name=systemd", "devices", "memory")
# Units that hold other people's containers; the unit around podman's is the application's own.
RUNTIMES = frozenset(
    f"{name}.service"
    for name in (
        *("containerd", "crio", "docker", "podman", "kubelet", "k3s", "k3s-agent"),
        *("rke2-server", "rke2-agent", "snap.microk8s.daemon-containerd"),
        "snap.microk8s.daemon-kubelite",
    )
)

_UNSAFE = re.compile(r"[^\w.:@+\\/-]")
# A pod of a file on the node has a hash for its UID.
_POD = re.compile(
    r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![0-9a-f])"
)
# docker-ID.scope, crio-ID.scope, libpod-ID; kubepods-podUID.slice:cri-containerd:ID; ID alone.
_CONTAINER = re.compile(r"(?:[\w.:-]*[:-])?([0-9a-f]{64})(?:\.scope)?")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a cgroup path says that a process belongs; empty where it does not."""

    unit: str = ""
    pod: str = ""
    container: str = ""


def parse_cgroup(text: str) -> Placement:
    """Return where the lines of /proc/PID/cgroup put a process; the innermost of each."""
    pod = container = unit = ""
    for path in _paths(text):
        if found := _POD.search(path):
            pod = pod or found[1].replace("_", "-")
        for part in path.removesuffix(" (deleted)").split("/"):
            if found := _CONTAINER.fullmatch(part):
                container = found[1][:CONTAINER_ID_DIGITS]
            # user@1000.service holds a whole login session: it names nobody.
            if part.endswith(".service") and not part.startswith("user@"):
                unit = safe_name(part)
    others = bool(pod) or (bool(container) and unit in RUNTIMES)
    return Placement("" if others else unit, pod, container)


def safe_name(name: str) -> str:
    """Return ``name`` without what could be no part of a name, cut to 128 characters."""
    return _UNSAFE.sub("_", name)[:128]


def _paths(text: str) -> Iterator[str]:
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[1] in CONTROLLERS:  # noqa: PLR2004 - hierarchy, these, path
            yield fields[2]
