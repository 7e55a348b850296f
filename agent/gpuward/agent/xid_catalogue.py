"""Every XID that means something on an inference node: whose fault it is, and how bad.

Source: NVIDIA's XID catalogue, https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
(its "immediate action" column decides the fault), read October 2025.  Where we deviate, a comment
says why: other monitors page for an application's own errors, or ignore a GPU that is wearing out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpuward.agent.model import Action, Result


class Fault(StrEnum):
    """Whose fault an XID is, which is what to do about it."""

    # The GPU is well: one program made an error or was cleaned up after one.
    APPLICATION = "application"
    INFORMATION = "information"
    # A reset of the GPU, with nothing running on it, mends it.
    RESETTABLE = "resettable"
    # The node must be emptied: a reset does not reach the fault.
    DRAIN = "drain"
    # The part is worn out or badly connected.
    REPLACE = "replace"
    # Not in the catalogue, or only "contact support".
    UNKNOWN = "unknown"


ACTIONS: dict[Fault, Action] = {
    Fault.APPLICATION: Action.CHECK_APPLICATION,
    Fault.INFORMATION: Action.NONE,
    Fault.RESETTABLE: Action.RESET_GPU,
    Fault.DRAIN: Action.DRAIN_NODE,
    Fault.REPLACE: Action.REPLACE_HARDWARE,
    Fault.UNKNOWN: Action.NONE,
}


@dataclass(frozen=True, slots=True)
class Xid:
    """What a code means; ``result`` is OK where the GPU itself is well."""

    fault: Fault
    result: Result
    meaning: str


_A, _I, _S, _D, _R, _U = (
    Fault.APPLICATION,
    Fault.INFORMATION,
    Fault.RESETTABLE,
    Fault.DRAIN,
    Fault.REPLACE,
    Fault.UNKNOWN,
)
_ROWS: tuple[tuple[tuple[int, ...], Fault, Result, str], ...] = (
    ((79,), _D, Result.FAIL, "GPU has fallen off the bus"),
    ((119, 120), _S, Result.FAIL, "GSP firmware does not answer"),
    ((140,), _S, Result.FAIL, "unrecovered ECC error"),
    ((143,), _S, Result.FAIL, "GPU initialisation error"),
    ((158,), _S, Result.FAIL, "GPU fatal timeout"),
    ((95,), _S, Result.FAIL, "uncontained memory error"),
    ((48, 171, 172), _S, Result.FAIL, "double-bit ECC error"),
    ((64,), _R, Result.FAIL, "memory remapping failure"),
    ((46,), _S, Result.FAIL, "GPU stopped processing"),
    ((62,), _S, Result.FAIL, "PMU halt"),
    ((110,), _S, Result.FAIL, "security fault"),
    ((109,), _A, Result.WARN, "context-switch timeout"),
    ((136,), _S, Result.FAIL, "NVLink training failed"),
    ((155,), _S, Result.FAIL, "NVLink software-defined error"),
    ((156,), _I, Result.WARN, "resource retirement event"),
    ((74, *range(144, 151)), _D, Result.WARN, "NVLink error"),
    ((167,), _D, Result.FAIL, "PCIe fatal timeout"),
    ((168,), _U, Result.WARN, "reduced memory capacity"),
    ((169,), _S, Result.FAIL, "internal micro-controller halt"),
    ((151,), _D, Result.WARN, "key rotation error"),
    ((54,), _R, Result.FAIL, "auxiliary power not connected"),
    ((94,), _A, Result.WARN, "contained memory error"),
    ((63,), _I, Result.OK, "memory row remapped"),
    # The catalogue ignores it; a high rate of corrected errors is how worn memory announces itself.
    ((92,), _R, Result.WARN, "high rate of single-bit ECC errors"),
    ((157, 160, 161), _R, Result.WARN, "channel or resource retirement"),
    ((163, 164), _I, Result.OK, "power-smoothing circuitry"),
    ((165,), _R, Result.WARN, "power-smoothing circuitry exhausted"),
    ((154,), _I, Result.OK, "recovery action changed"),
    ((13,), _A, Result.OK, "graphics engine exception"),
    ((31,), _A, Result.OK, "MMU page fault"),
    ((45,), _A, Result.OK, "clean-up after an earlier error"),
    (
        (8, 11, 25, 32, 39, 40, 41, 60, *range(68, 73), 75, 76, 77, 80, *range(82, 87), 88, 89),
        _A,
        Result.OK,
        "channel or engine exception",
    ),
    (
        (*range(96, 106), *range(126, 136), 139),
        _A,
        Result.OK,
        "channel or engine exception",
    ),
    (
        (14, 37, 38, 43, 44, 66, 67, 93, 106, 107, 108, 121, 137, 141, 152, 153),
        _I,
        Result.OK,
        "informational",
    ),
    ((78, 159), _U, Result.WARN, "driver or firmware needs an update"),
)

CATALOGUE: dict[int, Xid] = {
    code: Xid(fault, result, meaning) for codes, fault, result, meaning in _ROWS for code in codes
}
# A newer driver than this table: never dropped, never more than a ticket.
UNLISTED = Xid(Fault.UNKNOWN, Result.WARN, "not in the catalogue")
