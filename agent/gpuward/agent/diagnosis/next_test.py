"""Which test to do next: the one whose outcome would tell the two best hypotheses apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpuward.agent.diagnosis.hypothesis import Hypothesis
    from gpuward.agent.diagnosis.verdict import Verdict

# What makes a piece of evidence known; the first of those that tell as much is named.
TESTS: dict[str, str] = {
    "probe_preempted": "run the spin-gap probe ([probes] mode): it tells a neighbour from a clock",
    "probe_clock_low": "run the spin-gap probe ([probes] mode): it measures the clock itself",
    "fragmented": "install the tap in the engine's environment: nothing else sees its allocator",
    "allocator_retries": "install the tap in the engine's environment: it counts the flushes",
    "upstream_slow": "name the upstreams in [[upstreams]]: nobody looks at them",
    "cpu_pressure": "read /proc/pressure/cpu on the node",
    "cpu_starved": "run the probe on the processor ([probes] mode): it sees stolen time",
    "stranger_computes": "nvidia-smi pmon -c 5: which processes compute on the GPU?",
    "stranger_took_memory": "nvidia-smi: which processes hold memory of the GPU?",
    "arrivals_up": "compare the requests a second with an hour ago at the gateway",
    "prompts_longer": "compare the length of prompts with an hour ago at the gateway",
    "queueing": "ask the engine how many requests wait",
    "batch_full": "compare the running requests with the engine's max_num_seqs",
    "kv_cache_full": "ask the engine how full its KV cache is",
    "siblings_agree": "ask another replica the same ([[endpoints]] canary_interval_s)",
    "probe_memory_slow": "run the copy probe ([probes] mode)",
    "probe_copy_slow": "run the copy probe ([probes] mode)",
}
ALL_KNOWN = "read the engine's log, and look what was deployed when it began"


def next_test(verdict: Verdict) -> str:
    """Return the test that is worth most while the verdict is not certain."""
    best, second = (*(each.hypothesis for each in verdict.ranked[:2]), None, None)[:2]
    unknown = [name for name in TESTS if verdict.seen[name].is_unknown]
    # Sorting keeps the table's order of those that tell as much.
    ranked = sorted(unknown, key=lambda name: -_worth(name, best, second))
    return TESTS[ranked[0]] if ranked else ALL_KNOWN


def _worth(item: str, best: Hypothesis | None, second: Hypothesis | None) -> float:
    """Return by how much the lead could change, once it is known whether ``item`` is there."""
    return max(abs(_present(best, item) - _present(second, item)), _swing(best, second, item))


def _swing(best: Hypothesis | None, second: Hypothesis | None, item: str) -> float:
    return abs(_absent(best, item) - _absent(second, item))


def _present(hypothesis: Hypothesis | None, item: str) -> float:
    signs = hypothesis.signs if hypothesis else ()
    return next((sign.present for sign in signs if sign.item == item), 0.0)


def _absent(hypothesis: Hypothesis | None, item: str) -> float:
    signs = hypothesis.signs if hypothesis else ()
    return next((sign.absent for sign in signs if sign.item == item), 0.0)
