"""Which version of gpuward this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the distribution's version; "0+source" for sources that are not installed."""
    try:
        return version("gpuward")
    except PackageNotFoundError:
        return "0+source"
