"""Judge whether driver and GPUs are set up so that everything about them can be seen.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuward.agent.doctor_check import Check, Level, Machine
from gpuward.agent.model import SeriesKey
from gpuward.agent.unchecked import indexes_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.model import Snapshot

# Fields 269-271, times under a clocks event reason, came with this driver.
GOOD_DRIVER = 580
# NVML's compute modes.
PROHIBITED, EXCLUSIVE_PROCESS = 2, 3
# As /proc shows it: cut to 15 characters.
FABRIC_MANAGER = "nv-fabricmanage"


def gpu_checks(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    """Yield every check of driver and GPUs."""
    yield from _driver(snapshot)
    yield from _findings(snapshot)
    yield from _modes(snapshot)
    yield from _fabric(snapshot, machine)


def _driver(snapshot: Snapshot) -> Iterator[Check]:
    driver = snapshot.driver
    if not driver.up:
        yield Check(
            Level.FAIL,
            "driver",
            driver.reason or "it has not answered within 12 s",
            "install or load the driver, and see that this user may open /dev/nvidiactl",
        )
        return
    yield Check(Level.OK, "driver", f"{driver.version} answers, {len(snapshot.gpus)} GPUs")
    major = driver.version.partition(".")[0]
    if major.isdecimal() and int(major) < GOOD_DRIVER:
        yield Check(
            Level.WARN,
            "driver version",
            f"{driver.version} does not count the time under thermal slowdown and power brake",
            f"install driver {GOOD_DRIVER} or newer; until then reasons are sampled",
        )


def _findings(snapshot: Snapshot) -> Iterator[Check]:
    """Yield what detectors say of the driver and of the agent itself."""
    for opened in snapshot.open_findings:
        finding = opened.finding
        # The log has a check of its own.
        if finding.kind.startswith(("driver.", "agent.")) and finding.kind != "driver.missing":
            mend = f"see docs/findings.md, {finding.kind}"
            yield Check(Level.FAIL, finding.kind, finding.summary, mend)


def _modes(snapshot: Snapshot) -> Iterator[Check]:
    rows = (
        (
            "persistence mode",
            "gpu_persistence_mode",
            (0,),
            "is off: the driver unloads between programs, and counters begin anew",
            "systemctl enable --now nvidia-persistenced",
        ),
        (
            "ECC",
            "gpu_ecc_mode",
            (0,),
            "is off: memory errors go unseen",
            "nvidia-smi -e 1, then reset the GPU",
        ),
        (
            "compute mode",
            "gpu_compute_mode",
            (EXCLUSIVE_PROCESS, PROHIBITED),
            "lets no second process in: GPU probes cannot run there",
            'nvidia-smi -c DEFAULT, or [probes] mode = "cpu"',
        ),
        (
            "confidential mode",
            "gpu_confidential_mode",
            (1,),
            "is on: GPU probes do not run there",
            "nothing to mend where it is wanted",
        ),
        (
            "MIG",
            "gpu_mig_mode",
            (1,),
            "is on: no utilization by NVML there, activity only where GPM has it",
            "nothing to mend where it is wanted; nvidia-smi -mig 0 ends it",
        ),
    )
    for what, signal, bad, words, mend in rows:
        indexes = [
            gpu.index
            for gpu in snapshot.gpus
            if (sample := snapshot.samples.get(SeriesKey(signal, gpu=gpu.uuid))) is not None
            and sample.value in bad
        ]
        if indexes:
            yield Check(Level.WARN, what, f"{words} ({indexes_text(indexes)})", mend)


def _fabric(snapshot: Snapshot, machine: Machine) -> Iterator[Check]:
    if not any(key.signal == "gpu_fabric_state" for key in snapshot.samples):
        return
    if FABRIC_MANAGER in machine.programs:
        yield Check(Level.OK, "fabric manager", "runs")
    else:
        yield Check(
            Level.FAIL,
            "fabric manager",
            "does not run, and these GPUs are on NVSwitch: CUDA cannot start on them",
            "systemctl enable --now nvidia-fabricmanager, of the driver's own version",
        )
