"""Who asks the simulated engine, and how faults of it are written on a command line."""

from __future__ import annotations

import pytest

from gpuward.simulator.llm.faults import Fault, PageTrouble, Trouble, parse
from gpuward.simulator.llm.traffic import Demand, Traffic


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("slower=1.5@60", Fault(Trouble.SLOWER, 1.5, 60.0), id="all"),
        pytest.param("hang", Fault(Trouble.HANG), id="from the start"),
        pytest.param("restart=5", Fault(Trouble.RESTART, 5.0), id="no onset"),
        pytest.param(
            "page_down=times_out@2",
            Fault(Trouble.PAGE_DOWN, onset_s=2.0, page=PageTrouble.TIMES_OUT),
            id="page",
        ),
    ],
)
def test_a_fault_can_be_written(text, fault):
    assert fault == parse(text)


@pytest.mark.parametrize("text", ["", "sadness", "slower=fast", "slower=1@noon", "page_down=9"])
def test_what_is_no_fault_is_refused(text):
    with pytest.raises(ValueError, match=r"is not TROUBLE\[=AMOUNT\]\[@SECONDS\]"):
        parse(text)


# Who asks.


def test_lengths_are_those_of_the_trace():
    """Azure's conversations of 2023: median prompt 1,020 and answer 129, means 1,155 and 211."""
    traffic = Traffic(Demand(5.0, follow_ups=0.0), 1)
    requests = [traffic.take() for _ in range(8_000)]
    prompts = sorted(request.prompt_tokens for request in requests)
    answers = sorted(request.output_tokens for request in requests)

    assert 1_020 == pytest.approx(prompts[4_000], rel=0.03)
    assert 129 == pytest.approx(answers[4_000], rel=0.06)
    assert 1_155 == pytest.approx(sum(prompts) / 8_000, rel=0.05)
    assert 211 == pytest.approx(sum(answers) / 8_000, rel=0.05)


def test_the_rate_follows_day_and_climb():
    day = Demand(10.0, swing=0.5)
    climb = Demand(4.0, climb=((100.0, 1.0), (200.0, 3.0)))

    assert (5.0, 15.0) == pytest.approx((day.rate(0.0), day.rate(43_200.0)))
    assert (4.0, 8.0, 12.0) == pytest.approx([climb.rate(at_s) for at_s in (0.0, 150.0, 900.0)])
