"""Which gpuward this is."""

from __future__ import annotations

from importlib import metadata


def _version() -> str:
    try:
        return metadata.version("gpuward")
    except metadata.PackageNotFoundError:
        # Run from a source tree that nobody installed.
        return "unknown"


VERSION = _version()
