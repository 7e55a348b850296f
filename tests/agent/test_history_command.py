"""The terminal's picture of a signal's past, from what an agent answers."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gpuward.agent.__main__ import agent as command_line
from gpuward.agent.history_command import NoHistoryError, Wanted, lines
from gpuward.v1 import agent_pb2

NOW_S = 1_800_000_000
USED = "gpu_memory_used_bytes"


def key(gpu="", process="", signal=USED):
    return agent_pb2.SeriesKey(signal=signal, gpu_uuid=gpu, process_key=process)


class FakeAgent:
    """Knows two GPUs, and one point each ten seconds of the series that it is given."""

    class stub:  # noqa: N801 - stands for an object
        GetHistory = "GetHistory"

    def __init__(self, *series, kept=None):
        self.series = series
        self.kept = series if kept is None else kept
        self.asked = []

    def snapshot(self):
        snapshot = agent_pb2.Snapshot(
            gpus=[
                agent_pb2.GpuIdentity(uuid="GPU-b", index=0, name="H100"),
                agent_pb2.GpuIdentity(uuid="GPU-a", index=1, name="H100"),
            ],
            values=[agent_pb2.SignalValue(series=one, value=1.0) for one in self.series],
        )
        snapshot.at.FromSeconds(NOW_S)
        return snapshot

    def ask(self, method, request):
        assert method == "GetHistory"
        self.asked.append(request)
        answer = agent_pb2.GetHistoryResponse(series=request.series)
        if request.series in self.kept:
            for second in range(request.since.seconds, NOW_S, 10):
                answer.points.add(value=8.0 * 2**30).at.FromSeconds(second)
        return answer


def picture(agent, *, width=80, **wanted):
    return list(lines(agent, Wanted(**{"signal": USED} | wanted), since_s=600.0, width=width))


def test_one_series_is_one_chart():
    agent = FakeAgent(key("GPU-b"))

    shown = picture(agent)

    assert shown[:3] == [USED, "", "GPU 0  H100"]
    assert sum("┤" in line or "│" in line for line in shown) == 10
    assert "least 8.00 GiB" in shown[-1]
    assert agent.asked[0].since.seconds == NOW_S - 600
    assert max(map(len, shown)) <= 80


def test_several_are_small_and_in_the_order_of_gpus():
    shown = picture(FakeAgent(key("GPU-a"), key("GPU-b"), key(signal="gpu_other")))

    assert [line for line in shown if line.startswith("GPU")] == ["GPU 0  H100", "GPU 1  H100"]
    assert sum("┤" in line or "│" in line for line in shown) == 6


@pytest.mark.parametrize("gpu", ["GPU-a", "1"])
def test_one_gpu_alone(gpu):
    agent = FakeAgent(key("GPU-a"), key("GPU-b"))
    picture(agent, gpu=gpu)

    assert [request.series.gpu_uuid for request in agent.asked] == ["GPU-a"]


def test_a_gpu_that_is_gone_has_its_past():
    agent = FakeAgent(kept=[key("GPU-gone")])

    assert "GPU-gone" in picture(agent, gpu="GPU-gone")


def test_a_hostile_name_does_not_reach_the_terminal():
    shown = picture(FakeAgent(key("GPU-a", "\x1b[2Jp")))

    assert not any("\x1b" in line for line in shown)


def test_more_than_a_screen_is_said():
    shown = picture(FakeAgent(*(key("GPU-a", f"p{number:02}") for number in range(18))))

    assert shown[-1] == " 2 more: choose with --gpu, --process or --service"


def test_nothing_known_is_said():
    with pytest.raises(NoHistoryError, match="nothing is known of gpu_memory_used_bytes"):
        picture(FakeAgent())


def test_without_an_agent_it_is_one_line(tmp_path):
    outcome = CliRunner().invoke(
        command_line, ["history", USED, "--address", f"unix:{tmp_path}/none.sock"]
    )

    assert outcome.exit_code == 1
    assert "no agent answers there" in outcome.output
    assert outcome.output.count("\n") == 1
