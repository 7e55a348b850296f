"""Write docs/xids.md from the catalogues of XIDs and SXids that the agent judges by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent import sxid_catalogue, xid_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """# XIDs and SXids

What the agent makes of each error number of NVIDIA's driver. *ok* is kept as evidence, *warn* is a
ticket, *fail* pages. *Advice* is NVIDIA's first action, from the
[XID catalogue](https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html); where we
deviate, the last column says why. Made from `gpuward.agent.xid_catalogue` and
`gpuward.agent.sxid_catalogue` by `make golden`.

A site may say otherwise, in `agent.toml`; the note is shown with the finding:

```toml
[xid.overrides.31]
class = "drain"     # application, information, resettable, drain, replace or unknown
result = "warn"     # ok, warn or fail
note = "On these boards it has always been the memory."
```

| class | whose fault | suggested action |
|---|---|---|
| application | one program's; the GPU is well | check application |
| information | nobody's | none |
| resettable | the GPU's, and a reset mends it | reset gpu |
| drain | the GPU's or the node's; a reset does not reach it | drain node |
| replace | the part is worn out or badly connected | replace hardware |
| unknown | to be found out | none |

What changes a code's result:

* **3 of one code in an hour by one program** make a ticket of an *application* code; **in two
  programs or more** they are the GPU's.
* **94**: three in a day page. **109**: three in an hour page.
* **45** is told once a minute and names the finding that it follows from; alone it is a ticket.
* **74, 144-150**: two on one link in an hour page, and so does a line that calls itself fatal.
* **171, 172** name the 48 whose details they are, **154** the XID that it was logged with.
* **154** is judged by the action that it names while NVML cannot be asked for it; else
  `gpu.recovery_needed` tells.
* **63, 64** show what NVML says of the rows now.
* A *fail* that comes back **after two reboots**: replace hardware.
* More than ten of one code in a minute on one GPU: one event a minute with the count.
* A code that is not below: a ticket, never dropped.
"""


def reference() -> str:
    """Return docs/xids.md."""
    lines = [HEAD, "## XIDs", ""]
    lines += ["| XID | mnemonic | meaning | advice | class | result | why otherwise |"]
    lines += ["|---|---|---|---|---|---|---|", *_xids(), "", "## SXids", ""]
    lines += [
        "Errors of NVSwitches: Fabric Manager user guide, appendix on SXid errors. A line that"
    ]
    lines += ["A line that calls itself fatal pages, whatever its number.", ""]
    lines += ["| SXid | meaning | when called non-fatal |", "|---|---|---|", *_sxids()]
    return "\n".join(lines) + "\n"


def _xids() -> Iterator[str]:
    for code, xid in sorted(xid_catalogue.CATALOGUE.items()):
        yield (
            f"| {code} | `{xid.mnemonic}` | {xid.meaning} | {xid.advice} | {xid.fault.value} "
            f"| {xid.result.value} | {xid.why} |"
        )


def _sxids() -> Iterator[str]:
    for code, entry in sorted(sxid_catalogue.CATALOGUE.items()):
        yield f"| {code} | {entry.meaning} | {entry.result.value} |"
