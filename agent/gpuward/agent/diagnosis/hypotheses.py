"""All hypotheses, in order of precedence: what one that stands explains counts half below it.

A throttled clock explains slow tokens; slow tokens, longer prompts or a restart explain a queue and
a full KV cache; more requests explain a full KV cache.  Who is at the top was measured at the place
of the trouble, who is at the bottom only follows.
"""

from __future__ import annotations

from gpuward.agent.diagnosis.hypotheses_hardware import HARDWARE
from gpuward.agent.diagnosis.hypotheses_load import LOAD

HYPOTHESES = (*HARDWARE, *LOAD)
BY_NAME = {each.name: each for each in HYPOTHESES}
