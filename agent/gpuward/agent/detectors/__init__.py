"""Judgements over windows of samples, one per file, pure, each listed once in ``DETECTORS``.

To add one: write ``detectors/<what_is_wrong>.py`` with its ``KIND`` and ``detect(window, limits)``,
its line here, and a table test; CONTRIBUTING.md has an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuward.agent.detectors import (
    driver_unresponsive,
    memory_fragmentation,
    memory_saturation,
    xid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpuward.agent.kind import Kind
    from gpuward.agent.model import Finding
    from gpuward.agent.window import Window


@dataclass(frozen=True, slots=True)
class Detector:
    """A kind of finding, and the judgement whether there is one now."""

    kind: Kind
    detect: Callable[[Window], Iterator[Finding]]

    @property
    def component(self) -> str:
        """Return what its health is shown under: the name of its module."""
        return "detector." + self.detect.__module__.rpartition(".")[2]


DETECTORS: tuple[Detector, ...] = (
    Detector(driver_unresponsive.KIND, driver_unresponsive.detect),
    Detector(memory_fragmentation.KIND, memory_fragmentation.detect),
    Detector(memory_saturation.KIND, memory_saturation.detect),
    Detector(xid.KIND, xid.detect),
)
