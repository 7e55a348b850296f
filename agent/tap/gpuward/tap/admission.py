"""Whether this process takes part: an allow-list of services, and a share of hosts to begin with.

Both are read from the environment when CUDA starts, and decided alike each time: all processes of
one service on one host take part, or none does, also after a restart.  What cannot be understood
admits nobody.
"""

from __future__ import annotations

import fnmatch
import zlib
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICE = "GPUWARD_TAP_SERVICE"
ALLOW = "GPUWARD_TAP_ALLOW"
SHARE = "GPUWARD_TAP_SHARE"


def service_name(environment: Mapping[str, str], program: str) -> str:
    """Return the name of the service: as the environment says, or that of ``sys.argv[0]``."""
    path = PurePath(program)
    name = path.parent.name if path.stem == "__main__" else path.stem
    return environment.get(SERVICE) or name


def is_admitted(environment: Mapping[str, str], service: str, host: str) -> bool:
    """Return whether ``service`` matches a pattern, and ``host`` falls into the share."""
    patterns = [pattern.strip() for pattern in environment.get(ALLOW, "*").split(",")]
    if not any(fnmatch.fnmatchcase(service, pattern) for pattern in patterns):
        return False
    try:
        share = float(environment.get(SHARE, "1"))
    except ValueError:
        return False
    return zlib.crc32(f"{service}@{host}".encode("utf-8", "replace")) < share * 2**32
