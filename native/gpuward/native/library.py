"""Find libgpuward.so: the one function that does.

A wheel puts it into this package's folder; an editable install puts it into site-packages, while
the package's folder is the source tree.  It may be absent: without a compiler the wheel is pure.
"""

from __future__ import annotations

import ctypes
import sysconfig
from functools import cache
from pathlib import Path

NAME = "libgpuward.so"
ABI_VERSION = 1


def find(name: str = NAME) -> Path | None:
    """Return the path of a native library of ours, ``None`` when it was not built."""
    here = Path(__file__).parent
    installed = Path(sysconfig.get_path("purelib"), "gpuward", "native")
    for folder in (here, installed):
        if (folder / name).is_file():
            return folder / name
    return None


@cache
def load() -> ctypes.CDLL | None:
    """Return the library, ``None`` where it is absent, cannot be loaded or has another ABI."""
    path = find()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
        version = library.gpuward_abi_version()
    except (OSError, AttributeError):
        return None
    return library if version == ABI_VERSION else None
