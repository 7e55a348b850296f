"""Judgements over windows of samples, one per file, pure, each listed once in ``DETECTORS``.

To add one: write ``detectors/<what_is_wrong>.py`` with ``detect(window, limits)``, its kind in
``kinds.py``, its line here, and a table test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpuward.agent.detectors import (
    driver_unresponsive,
    memory_fragmentation,
    memory_saturation,
    xid,
)
from gpuward.agent.model import Finding
from gpuward.agent.window import Window

Detector = Callable[[Window], Iterator[Finding]]

DETECTORS: tuple[Detector, ...] = (
    driver_unresponsive.detect,
    memory_fragmentation.detect,
    memory_saturation.detect,
    xid.detect,
)
