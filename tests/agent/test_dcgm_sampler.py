"""Activity of older GPUs, read from the page of a DCGM exporter."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from gpuward.agent.model import Gpu, Result
from gpuward.agent.openmetrics import ParseError
from gpuward.agent.samplers.dcgm import DcgmSampler, activities

# As dcgm-exporter 4 writes it (its README and default-counters.csv), label values shortened.
PAGE = """\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA L40S"} 97
# HELP DCGM_FI_PROF_SM_ACTIVE The ratio of cycles an SM has at least 1 warp assigned.
# TYPE DCGM_FI_PROF_SM_ACTIVE gauge
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA L40S"} 0.81
DCGM_FI_PROF_SM_ACTIVE{gpu="1",UUID="GPU-2",device="nvidia1",modelName="NVIDIA L40S"} 0.5
DCGM_FI_PROF_SM_ACTIVE{gpu="0",UUID="GPU-1",GPU_I_ID="3",GPU_I_PROFILE="1g.10gb"} 0.2
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0"} 0.31
DCGM_FI_PROF_DRAM_ACTIVE{gpu="0",UUID="GPU-1",device="nvidia0"} 1.3
DCGM_FI_PROF_PCIE_RX_BYTES{gpu="0",UUID="GPU-1",device="nvidia0"} 123456789
"""
OLD = Gpu("GPU-1", 0, "NVIDIA L40S", "1B:00.0", unsupported=frozenset({"gpu_sm_active_ratio"}))
NEW = Gpu("GPU-2", 1, "NVIDIA H100", "1C:00.0")


def test_only_gpus_that_tell_nothing_themselves():
    """GPU-2 has GPM; a MIG device's figures are not its GPU's; no ratio is above 1 (DCGM#152)."""
    told = {(s.key.gpu, s.key.signal): s.value for s in activities(PAGE, frozenset({"GPU-1"}), 1.0)}

    assert told == {
        ("GPU-1", "gpu_sm_active_ratio"): 0.81,
        ("GPU-1", "gpu_tensor_active_ratio"): 0.31,
        ("GPU-1", "gpu_dram_active_ratio"): 1.0,
        ("GPU-1", "gpu_pcie_receive_bytes_per_second"): 123456789.0,
    }


def test_a_broken_page_is_refused():
    with pytest.raises(ParseError):
        list(activities('DCGM_FI_PROF_SM_ACTIVE{UUID="GPU-1"} many\n', frozenset({"GPU-1"}), 1.0))


@asynccontextmanager
async def exporter(status, body):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_from_the_exporter_to_the_samples():
    async with (
        exporter("200 OK", PAGE.encode()) as url,
        DcgmSampler(url, gpus=lambda: (OLD, NEW)) as dcgm,
    ):
        batch = await dcgm.sample(5.0)

        assert {sample.key.gpu for sample in batch.samples} == {"GPU-1"}
        assert len(batch.samples) == 4
        assert dcgm.health.result is Result.OK


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        pytest.param("503 Busy", b"", "status 503", id="it refuses"),
        pytest.param("200 OK", b"DCGM_FI_PROF_SM_ACTIVE{\n", "line 1", id="not a page"),
    ],
)
async def test_without_a_page_there_are_no_samples_and_a_reason(status, body, words):
    async with exporter(status, body) as url, DcgmSampler(url, gpus=lambda: (OLD,)) as dcgm:
        batch = await dcgm.sample(5.0)

        assert () == batch.samples
        assert dcgm.health.result is Result.UNKNOWN
        assert words in dcgm.health.reason


async def test_nobody_answers():
    async with exporter("200 OK", b"") as url:
        pass
    async with DcgmSampler(url, gpus=lambda: (OLD,)) as dcgm:
        await dcgm.sample(5.0)

        assert dcgm.health.result is Result.UNKNOWN
