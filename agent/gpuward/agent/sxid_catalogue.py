"""NVIDIA's SXid catalogue: errors of NVSwitches, and what they mean for the node.

Source: Fabric Manager for NVIDIA NVSwitch Systems user guide (DU-09883-001), appendix "NVIDIA SXid
errors": non-fatal, fatal, always fatal and other notable ones.  The driver's own word in the line,
"Fatal" or "Non-fatal", decides; the catalogue says what helps, and that some numbers are fatal in
whatever words they come.  An error of a switch is one of the node: every GPU behind it may hang.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from gpuward.agent.model import Action, Result

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SxidEntry:
    """What a number means; ``result`` is that of a line that calls itself non-fatal."""

    meaning: str
    result: Result
    always_fatal: bool = False


_CORRECTED = (
    *(11012, 11021, 11022, 11023, 12021, 12023, 15008, 15011, 19049, 19055, 19057, 19059),
    *(19062, 19065, 19068, 19071, 24001, 24002, 24003),
)
# The guide calls them non-fatal: nothing is lost, or traffic of one partition stops.
_NON_FATAL = {
    20001: ("TX replay error", Result.OK),
    20009: ("RX short error rate", Result.OK),
    22013: ("Minion link DLREQ interrupt", Result.OK),
    10005: ("host thermal event, end", Result.OK),
    10001: ("host PRIV error", Result.WARN),
    10002: ("host PRIV timeout", Result.WARN),
    10004: ("host thermal event, start", Result.WARN),
    11004: ("ingress invalid ACL", Result.WARN),
    12028: ("egress nonposted PRIV error", Result.WARN),
    19084: ("AN1 heartbeat timeout", Result.WARN),
    20012: ("broken or inconsistent connection", Result.WARN),
}
# Fatal to the links and partitions that they are about.
_FATAL = {
    11001: "ingress invalid command",
    11009: "ingress invalid VCSet",
    11013: "ingress header DBE",
    11018: "ingress RID DBE",
    11019: "ingress RLAN DBE",
    11020: "ingress control parity",
    12001: "egress crossbar overflow",
    12002: "egress packet route",
    12022: "egress input ECC DBE error",
    12024: "egress output ECC DBE error",
    12025: "egress credit overflow",
    12026: "egress destination request ID error",
    12027: "egress destination response ID error",
    12030: "egress control parity error",
    12031: "egress credit parity error",
    12032: "egress flit type mismatch",
    14017: "TS ATO timeout",
    15001: "route buffer over/underflow",
    15006: "route transdone over/underflow",
    15009: "route GLT DBE",
    15010: "route parity",
    15012: "route incoming DBE",
    15013: "route credit parity",
    19047: "NCISOC HDR ECC DBE error",
    19048: "NCISOC DAT ECC DBE error",
    19054: "HDR RAM ECC DBE error",
    19056: "DAT0 RAM ECC DBE error",
    19058: "DAT1 RAM ECC DBE error",
    19060: "CREQ RAM HDR ECC DBE error",
    19061: "CREQ RAM DAT ECC DBE error",
    19063: "Response RAM HDR ECC DBE error",
    19064: "Response RAM DAT ECC DBE error",
    19066: "COM RAM HDR ECC DBE error",
    19067: "COM RAM DAT ECC DBE error",
    19069: "RSP1 RAM HDR ECC DBE error",
    19070: "RSP1 RAM DAT ECC DBE error",
    20034: "LTSSM fault up",
    24004: "sourcetrack TCEN0 crubmstore DBE",
    24005: "sourcetrack TCEN0 TD crubmstore DBE",
    24006: "sourcetrack TCEN1 crubmstore DBE",
    24007: "sourcetrack timeout error",
    22012: "Minion link NA interrupt",
}
# Fatal to the whole fabric: only a reset of all GPUs and switches, or a reboot, mends it.
_ALWAYS_FATAL = {
    10003: "host unhandled interrupt",
    12020: "egress sequence ID error",
    22003: "Minion halt",
    22011: "Minion exterror",
    23001: "ingress SRC-VC buffer overflow",
    23002: "ingress SRC-VC buffer underflow",
    23003: "egress DST-VC credit overflow",
    23004: "egress DST-VC credit underflow",
    23005: "ingress packet burst error",
    23006: "ingress packet sticky error",
    23007: "possible bubbles at ingress",
    23008: "ingress packet invalid dst error",
    23009: "ingress packet parity error",
    23010: "ingress SRC-VC buffer overflow",
    23011: "ingress SRC-VC buffer underflow",
    23012: "egress DST-VC credit overflow",
    23013: "egress DST-VC credit underflow",
    23014: "ingress packet burst error",
    23015: "ingress packet sticky error",
    23016: "possible bubbles at ingress",
    23017: "ingress credit parity error",
}

CATALOGUE: Mapping[int, SxidEntry] = MappingProxyType(
    {
        **{code: SxidEntry("single-bit ECC error, corrected", Result.OK) for code in _CORRECTED},
        **{code: SxidEntry(*entry) for code, entry in _NON_FATAL.items()},
        **{code: SxidEntry(meaning, Result.WARN) for code, meaning in _FATAL.items()},
        **{
            code: SxidEntry(meaning, Result.FAIL, always_fatal=True)
            for code, meaning in _ALWAYS_FATAL.items()
        },
    }
)
# Newer switches than this table: never dropped, and as bad as the driver says.
UNLISTED = SxidEntry("not in the catalogue", Result.WARN)


def judge(code: int, *, fatal: bool) -> tuple[Result, Action, str]:
    """Return result, action and meaning of SXid ``code`` in a line that says ``fatal`` or not."""
    entry = CATALOGUE.get(code, UNLISTED)
    if fatal or entry.always_fatal:
        return Result.FAIL, Action.DRAIN_NODE, entry.meaning
    return entry.result, Action.NONE, entry.meaning
