"""What one site wants an XID to mean: ``[xid.overrides]`` in the agent's configuration.

Monitors disagree about a dozen codes, and a site may know better what a code means on its hardware.
What is not said stays as the catalogue has it; the note is shown with the finding.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from gpuward.agent.model import Result
from gpuward.agent.xid_catalogue import CATALOGUE, UNLISTED, Fault, Xid

if TYPE_CHECKING:
    from collections.abc import Mapping

HIGHEST_CODE = 99_999


class XidOverride(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"fault": "class"},
):
    """One code; what is left out stays as the catalogue has it."""

    fault: Annotated[
        Literal["application", "information", "resettable", "drain", "replace", "unknown", ""],
        Meta(description="Whose fault it is, and so what to do; docs/xids.md explains each."),
    ] = ""
    result: Annotated[
        Literal["ok", "warn", "fail", ""],
        Meta(description="`ok` is kept as evidence, `warn` is a ticket, `fail` pages."),
    ] = ""
    note: Annotated[str, Meta(description="Why, for whoever reads the finding.")] = ""

    def __post_init__(self) -> None:
        if not (self.fault or self.result or self.note):
            raise ValueError("an override that changes nothing: give class, result or note")


class XidConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the codes of XIDs mean on this node."""

    overrides: Annotated[
        dict[str, XidOverride], Meta(description="By code, as in `[xid.overrides.31]`.")
    ] = {}

    def __post_init__(self) -> None:
        for code in self.overrides:
            if not (code.isascii() and code.isdecimal() and int(code) <= HIGHEST_CODE):
                raise ValueError(f"overrides: {code!r} is not the number of an XID")

    def catalogue(self) -> Mapping[int, Xid]:
        """Return what every code means on this node."""
        changed = {
            int(code): _changed(CATALOGUE.get(int(code), UNLISTED), override)
            for code, override in self.overrides.items()
        }
        return MappingProxyType({**CATALOGUE, **changed})


def _changed(xid: Xid, override: XidOverride) -> Xid:
    return replace(
        xid,
        fault=Fault(override.fault) if override.fault else xid.fault,
        result=Result(override.result) if override.result else xid.result,
        why=override.note or xid.why,
    )
