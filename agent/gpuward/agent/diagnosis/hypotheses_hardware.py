"""The hypotheses about GPUs and their driver, in order of precedence; see ``hypotheses``."""

from __future__ import annotations

from gpuward.agent.diagnosis.hypothesis import SLOWED, Hypothesis, Sign, Source
from gpuward.agent.model import Action, CauseDomain

# How a GPU that is gone shows.
_GONE = SLOWED | {"requests_fail", "outage", "tokens_stopped", "page_unreadable", "restarted"}
_LOW_CLOCK = frozenset({"clock_low", "probe_clock_low", "behind_siblings", "probe_kernel_slow"})
# A sick card may compute wrong, and one that is well does not.
_WRONG = frozenset({"answers_differ", "siblings_agree"})
_DATASHEET = Source.DATASHEET
GPU_SLOW = "gpu_slow"

HARDWARE: tuple[Hypothesis, ...] = (
    Hypothesis(
        "driver_hang",
        CauseDomain.DRIVER,
        Action.DRAIN_NODE,
        "the NVIDIA driver does not answer",
        "drain the node; a restart of the pods would hang as well",
        gate=("driver_silent",),
        signs=(Sign("driver_silent", 30, -30, _DATASHEET), Sign("tokens_stopped", 5, -5)),
        explains=_GONE | _LOW_CLOCK | {"gpu_gone"},
    ),
    Hypothesis(
        "gpu_lost",
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "a GPU cannot be reached any more",
        "drain the node; a GPU that fell off the bus needs a cold reboot at best",
        gate=("gpu_gone",),
        signs=(Sign("gpu_gone", 30, -30, _DATASHEET), Sign("xid", 5), Sign("tokens_stopped", 5)),
        explains=_GONE | _LOW_CLOCK | {"xid", "gpu_fails", "pcie_degraded"},
    ),
    Hypothesis(
        "gpu_fault",
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "a GPU reports errors that it could not correct",
        "drain the GPU now, then reset it; replace it when it comes back with errors",
        gate=("memory_fails", "xid", "gpu_fails"),
        signs=(
            Sign("memory_fails", 30, -5, _DATASHEET),
            Sign("xid", 30, -5, _DATASHEET),
            Sign("gpu_fails", 30, 0, _DATASHEET),
            Sign("requests_fail", 5),
            Sign("tokens_stopped", 5),
            Sign("answers_differ", 5),
        ),
        explains=_GONE | _WRONG | {"memory_corrects", "repair_waits"},
    ),
    Hypothesis(
        "thermal",
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "heat holds the clocks of a GPU down",
        "look at fans, inlet air and paste; move load away until it is cool",
        gate=("heat_slowdown",),
        signs=(
            Sign("heat_slowdown", 25, -30, _DATASHEET),
            Sign("clock_low", 5, -3),
            Sign("probe_clock_low", 5, -3),
            Sign("inter_token_slow", 5, -3),
        ),
        explains=SLOWED | _LOW_CLOCK | {"power_capped"},
        parent=GPU_SLOW,
    ),
    Hypothesis(
        "power_cap",
        CauseDomain.GPU,
        Action.NONE,
        "power holds the clocks of a GPU down",
        "ask who lowered the limit (nvidia-smi -q -d POWER), or look at the power supply",
        gate=("power_limit_lowered", "power_brake"),
        signs=(
            Sign("power_limit_lowered", 12, -5, _DATASHEET),
            Sign("power_brake", 25, 0, _DATASHEET),
            Sign("power_capped", 5, -3, _DATASHEET),
            Sign("clock_low", 8, -5),
            Sign("probe_clock_low", 5, -3),
            Sign("inter_token_slow", 8, -15),
            Sign("heat_slowdown", -10, 2),
        ),
        explains=SLOWED | _LOW_CLOCK,
        parent=GPU_SLOW,
    ),
    Hypothesis(
        "ecc_degraded",
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "the memory of a GPU is giving way: it keeps correcting errors",
        "drain the GPU and reset it; replace the card when the errors come back",
        gate=("memory_corrects", "repair_waits"),
        signs=(
            Sign("memory_corrects", 22, -5, _DATASHEET),
            Sign("repair_waits", 20, 0, _DATASHEET),
            Sign("probe_memory_slow", 5),
            Sign("inter_token_slow", 3),
            Sign("answers_differ", 5),
        ),
        explains=SLOWED | _WRONG | {"probe_memory_slow"},
        parent=GPU_SLOW,
    ),
    Hypothesis(
        "pcie_downgrade",
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "the PCIe link of a GPU is slower than it should be",
        "reseat the card or its riser; lspci -vv shows the link's state",
        gate=("pcie_degraded", "probe_copy_slow"),
        signs=(
            Sign("pcie_degraded", 22, -10, _DATASHEET),
            Sign("probe_copy_slow", 15, -5),
        ),
        explains=SLOWED | {"probe_copy_slow"},
        parent=GPU_SLOW,
    ),
    Hypothesis(
        GPU_SLOW,
        CauseDomain.GPU,
        Action.DRAIN_NODE,
        "a GPU does less than it could, and nothing says why",
        "move load away from this GPU, then run dcgmi diag -r 3",
        gate=(
            "behind_siblings",
            "clock_low",
            "probe_clock_low",
            "probe_memory_slow",
            "nvlink_degraded",
        ),
        signs=(
            Sign("behind_siblings", 12),
            Sign("clock_low", 10, -5),
            Sign("probe_clock_low", 10, -5),
            Sign("probe_memory_slow", 12),
            Sign("nvlink_degraded", 18, 0, _DATASHEET),
            Sign("inter_token_slow", 8, -8),
        ),
        explains=SLOWED,
    ),
)
