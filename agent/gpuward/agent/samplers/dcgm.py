"""Sample the activity of GPUs older than Hopper from a DCGM exporter that runs on the node.

Those GPUs have profiling counters, but only one process may read them at a time, and where DCGM
runs that is DCGM; so the agent reads its exporter's page (``DCGM_FI_PROF_*``) instead of fighting
for them.  A GPU that the driver itself tells about (GPM) is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from gpuward.agent.http_get import HttpClient, HttpError
from gpuward.agent.model import Batch, ComponentHealth, Result, Sample, SeriesKey
from gpuward.agent.openmetrics import PageParser, ParseError, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpuward.agent.model import Gpu

PAGE = "/metrics"
ACCEPT = "text/plain;version=0.0.4"
TIMEOUT_S = 2.0
HTTP_OK = 200
SM = "gpu_sm_active_ratio"
# dcgm_fields.h: ratios of cycles, and bytes a second.
FIELDS = {
    "DCGM_FI_PROF_SM_ACTIVE": SM,
    "DCGM_FI_PROF_SM_OCCUPANCY": "gpu_sm_occupancy_ratio",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gpu_tensor_active_ratio",
    "DCGM_FI_PROF_DRAM_ACTIVE": "gpu_dram_active_ratio",
    "DCGM_FI_PROF_PCIE_TX_BYTES": "gpu_pcie_transmit_bytes_per_second",
    "DCGM_FI_PROF_PCIE_RX_BYTES": "gpu_pcie_receive_bytes_per_second",
    "DCGM_FI_PROF_NVLINK_TX_BYTES": "gpu_nvlink_transmit_bytes_per_second",
    "DCGM_FI_PROF_NVLINK_RX_BYTES": "gpu_nvlink_receive_bytes_per_second",
}
_PARSER: PageParser[Series] = PageParser(FIELDS, lambda series: series)


class DcgmSampler:
    """Reads the exporter at ``url``; ``gpus``: those that the driver lists."""

    name = "dcgm"
    period_s = 5.0

    def __init__(self, url: str, *, gpus: Callable[[], Sequence[Gpu]]) -> None:
        self._client = HttpClient(url)
        self._gpus = gpus
        self._trouble = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.close()

    @property
    def health(self) -> ComponentHealth:
        """Unknown while the page cannot be read, with the reason."""
        result = Result.UNKNOWN if self._trouble else Result.OK
        return ComponentHealth(self.name, result, self._trouble)

    async def sample(self, now_s: float) -> Batch:
        wanted = frozenset(gpu.uuid for gpu in self._gpus() if SM in gpu.unsupported)
        try:
            page = await self._page()
            samples = tuple(activities(page, wanted, now_s))
        except (HttpError, ParseError) as error:
            self._trouble = str(error)
            return Batch()
        self._trouble = ""
        return Batch(samples=samples)

    async def _page(self) -> str:
        answer = await self._client.get(PAGE, timeout_s=TIMEOUT_S, accept=ACCEPT)
        if answer.status != HTTP_OK:
            raise HttpError(f"{PAGE}: status {answer.status}")
        return answer.body.decode("utf-8", "replace")


def activities(page: str, gpus: frozenset[str], now_s: float) -> Iterator[Sample]:
    """Yield what ``page`` says of ``gpus``; raises ``ParseError``.

    A MIG device's series carries the UUID of its GPU, whose figures they are not.
    """
    for series, value in zip(*_PARSER.read(page), strict=True):
        signal, gpu = FIELDS[series.name], series.labels.get("UUID", "")
        if gpu not in gpus or series.labels.get("GPU_I_ID"):
            continue
        figure = max(0.0, value)
        if signal.endswith("_ratio"):
            figure = min(1.0, figure)
        yield Sample(SeriesKey(signal, gpu=gpu), now_s, figure)
