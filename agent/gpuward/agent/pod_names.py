"""Find a pod's namespace and name by its UID, on the node alone.

Kubelet keeps the logs of each pod in ``/var/log/pods/<namespace>_<name>_<UID>``, which are names
without an underscore (kubelet's ``BuildPodLogsDirectory``); nobody has to ask the API server.
Where that folder is not there, or not mounted into our container, a pod goes by its UID.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

POD_LOGS = Path("/var/log/pods")
# A node has 110 pods, unless somebody wants more.
MOST_PODS = 2_000
PARTS = 3
# namespace/name, of 63 and 253 characters at most.
MOST_CHARACTERS = 317


def pod_name(uid: str, pod_logs: Path = POD_LOGS) -> str:
    """Return ``namespace/name`` of the pod, empty where the node does not say."""
    try:
        with os.scandir(pod_logs) as folders:
            for folder in islice(folders, MOST_PODS):
                parts = folder.name.split("_")
                if len(parts) == PARTS and parts[-1] == uid and folder.name.isascii():
                    return "/".join(parts[:-1])[:MOST_CHARACTERS]
    except OSError:
        return ""
    return ""
