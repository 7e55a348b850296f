"""Evidence that detectors of the hardware give: links, memory errors, XIDs, the driver's flags."""

from __future__ import annotations

from gpuward.agent.detectors import (
    ecc_corrected,
    ecc_uncorrected,
    gpu_flags,
    gpu_slower_than_siblings,
    nvlink,
    pcie_degraded,
    xid,
)
from gpuward.agent.diagnosis.told import told
from gpuward.agent.model import Result

FAILED = frozenset({Result.FAIL})
_OF_REPAIRS = ("gpu.memory.remap_pending", "gpu.memory.repair_pending")
_OF_FAULTS = ("gpu.memory.remap_failed", "gpu.ecc.sram_threshold", "gpu.fabric.unhealthy")
_REPAIRS = [flag.detect for flag in gpu_flags.FLAGS if flag.kind.name in _OF_REPAIRS]
_FAULTS = [flag.detect for flag in gpu_flags.FLAGS if flag.kind.name in _OF_FAULTS]

pcie_slow = told(pcie_degraded.detect, needs="gpu_pcie_link_width")
nvlink_bad = told(nvlink.detect, needs="gpu_nvlink_links")
errors_corrected = told(ecc_corrected.detect, needs="gpu_ecc_corrected_total")
# A count that stands is old; one that rises is now.
errors_uncorrected = told(ecc_uncorrected.detect, needs="gpu_ecc_uncorrected_total", results=FAILED)
repair_waits = told(*_REPAIRS, needs="gpu_row_remap_pending")
faulty = told(*_FAULTS, needs="gpu_row_remap_failed")
# A program's own error is no fault of the GPU.
xid_of_gpu = told(xid.detect, needs="node_kmsg_readable", results=FAILED)
behind_siblings = told(gpu_slower_than_siblings.detect, needs="gpu_sm_clock_hertz")
