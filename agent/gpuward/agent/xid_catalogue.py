"""What every XID means on an inference node: whose fault it is, how bad, what helps.

NVIDIA's advised first action (``xid_rows``) decides, by one table, the fault and the result.  Where
we deviate, a reason says why: other monitors page for an application's own errors, or ignore a GPU
that is wearing out.  A node may deviate further: ``[xid.overrides]`` in its configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.model import Action, Result
from gpuward.agent.xid_rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    """What a code means; ``result`` is OK where the GPU itself is well.

    ``advice`` is NVIDIA's word for the first action, ``why`` the reason of a deviation from it.
    """

    fault: Fault
    result: Result
    meaning: str
    mnemonic: str = ""
    advice: str = ""
    why: str = ""


# What NVIDIA's first actions come to.
_BY_ADVICE: dict[str, tuple[Fault, Result]] = {
    "RESTART_APP": (Fault.APPLICATION, Result.OK),
    "WORKFLOW_XID_45": (Fault.APPLICATION, Result.OK),
    "IGNORE": (Fault.INFORMATION, Result.OK),
    "XID_154": (Fault.INFORMATION, Result.OK),
    "RESET_GPU": (Fault.RESETTABLE, Result.FAIL),
    "WORKFLOW_XID_48": (Fault.RESETTABLE, Result.FAIL),
    "RESTART_BM": (Fault.DRAIN, Result.FAIL),
    "RESTART_VM": (Fault.DRAIN, Result.WARN),
    "WORKFLOW_NVLINK_ERR": (Fault.DRAIN, Result.WARN),
    "WORKFLOW_NVLINK5_ERR": (Fault.DRAIN, Result.WARN),
    "CHECK_MECHANICALS": (Fault.REPLACE, Result.FAIL),
    "UPDATE_SWFW": (Fault.UNKNOWN, Result.WARN),
    "CHECK_UVM": (Fault.UNKNOWN, Result.WARN),
    "CONTACT_SUPPORT": (Fault.UNKNOWN, Result.WARN),
    # No action yet in the catalogue.
    "": (Fault.UNKNOWN, Result.WARN),
}

_DEVIATIONS: dict[int, tuple[Fault, Result, str]] = {
    64: (Fault.REPLACE, Result.FAIL, "A row that cannot be remapped is for ever unsafe."),
    92: (Fault.REPLACE, Result.WARN, "It is how memory that wears out announces itself."),
    94: (Fault.APPLICATION, Result.WARN, "The victim is one program, but the memory is at fault."),
    109: (
        Fault.APPLICATION,
        Result.WARN,
        "One program's endless kernel looks the same.",
    ),
    156: (Fault.INFORMATION, Result.WARN, "The investigation's action is to ignore it."),
    157: (Fault.REPLACE, Result.WARN, "What cannot be retired stays in use."),
    161: (Fault.REPLACE, Result.WARN, "What cannot be retired stays in use."),
    162: (Fault.INFORMATION, Result.OK, "Power smoothing is back."),
    163: (Fault.INFORMATION, Result.OK, "Power smoothing does not serve inference."),
    164: (Fault.INFORMATION, Result.OK, "Power smoothing does not serve inference."),
    165: (Fault.REPLACE, Result.WARN, "The part has reached its end."),
    167: (Fault.DRAIN, Result.FAIL, "Its name says fatal; nothing on the link answers."),
    169: (Fault.RESETTABLE, Result.FAIL, "A halted micro-controller, as in 62."),
    171: (Fault.RESETTABLE, Result.FAIL, "Details of a 48."),
    172: (Fault.RESETTABLE, Result.FAIL, "Details of a 48."),
}


def _entry(code: int, mnemonic: str, meaning: str, advice: str) -> Xid:
    fault, result, why = _DEVIATIONS.get(code, (*_BY_ADVICE[advice], ""))
    return Xid(fault, result, meaning, mnemonic, advice, why)


CATALOGUE: Mapping[int, Xid] = MappingProxyType({row[0]: _entry(*row) for row in ROWS})
# A newer driver than this table: never dropped, never more than a ticket.
UNLISTED = Xid(Fault.UNKNOWN, Result.WARN, "not in the catalogue")
