"""Find the simulator's compiled libraries, and the environment that makes a process load them."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from gpuward.simulator.layout import STATE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

NVML_LIBRARY = "libnvidia-ml.so.1"
ROOT_VARIABLE = "GPUWARD_SIM_ROOT"


class NotBuiltError(Exception):
    """The compiled libraries are not installed; the message is one line and says what to do."""


def library_directory() -> Path:
    """Return the folder that holds ``libnvidia-ml.so.1``; raises ``NotBuiltError``.

    The package's own folder first; an editable install keeps them in site-packages instead.
    """
    inside = Path("gpuward", "simulator", "lib")
    candidates = [
        Path(__file__).parent / "lib",
        Path(sysconfig.get_path("purelib")) / inside,
        Path(sysconfig.get_path("platlib")) / inside,
    ]
    for directory in candidates:
        if (directory / NVML_LIBRARY).exists():
            return directory
    raise NotBuiltError(
        f"{NVML_LIBRARY} is not in {candidates[0]} or {candidates[1]}: "
        "reinstall gpuward-simulator where a C++ compiler is (pip install ./native/simulator)"
    )


def environment(state: Path, root: Path, *, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return ``base`` changed so that a process sees the simulated driver behind ``state``."""
    directories = [str(library_directory()), base.get("LD_LIBRARY_PATH", "")]
    return {
        **base,
        "LD_LIBRARY_PATH": ":".join(filter(None, directories)),
        STATE_VARIABLE: str(state),
        ROOT_VARIABLE: str(root),
    }
