"""What is true of every finding of a kind: how loud it is, whose domain, how long it must last.

Each kind is defined once, in the module of its detector.  An anomaly alone never pages: PAGE is
for hard faults only.  The coordinator may promote or demote a kind; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.model import Action, CauseDomain, FindingClass


@dataclass(frozen=True, slots=True)
class Kind:
    """What is true of every finding of a kind.

    ``raise_after_s``: the condition must be seen for this long before it raises (0: at once).
    ``clear_after_s``: it must be gone for this long before it clears.
    """

    name: str
    default_class: FindingClass
    domain: CauseDomain
    action: Action
    meaning: str
    raise_after_s: float = 0.0
    clear_after_s: float = 60.0
    # A WARN result has the default class, a FAIL result pages.  OK (evidence only) is stored.
    page_when_failed: bool = False
