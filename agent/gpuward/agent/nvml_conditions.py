"""What an NVML error code means for the reading of a GPU: the codes and the conditions.

Codes are nvmlReturn_t of nvml.h.  The conditions are few, named for what is true, and are raised
at the border to the binding only (``nvml_device.Slot``).
"""

from __future__ import annotations

ARGUMENT_VERSION_MISMATCH = 25
# NOT_SUPPORTED, FUNCTION_NOT_FOUND, and the former.
UNSUPPORTED = frozenset({3, 13, ARGUMENT_VERSION_MISMATCH})
# UNINITIALIZED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, LIB_RM_VERSION_MISMATCH.
DRIVER_GONE = frozenset({1, 9, 12, 18})
# GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND.
DEVICE_LOST = frozenset({15, 16, 28})
NO_PERMISSION = 4
UNKNOWN = 999


class DeviceLost(Exception):  # noqa: N818 - the condition's name
    """The GPU does not answer as a GPU any more."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class DriverGone(Exception):  # noqa: N818 - the condition's name
    """The driver is not there, or not the one that the library belongs to."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Unsupported(Exception):  # noqa: N818 - the condition's name
    """The GPU or the driver has no such thing."""


class Unavailable(Exception):  # noqa: N818 - the condition's name
    """No value this time: busy, not ready, not permitted, unknown error."""


def condition(code: int, text: str) -> DeviceLost | DriverGone | Unsupported | Unavailable:
    """Return the condition that ``code`` stands for; ``text`` says what was tried."""
    if code in UNSUPPORTED:
        return Unsupported(text)
    if code in DRIVER_GONE:
        return DriverGone(code, text)
    if code in DEVICE_LOST:
        return DeviceLost(code, text)
    return Unavailable(text)
