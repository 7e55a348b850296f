"""`gpuward agent why`: the verdict as a person reads it, in 80 columns."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gpuward.agent.__main__ import agent as command_line
from gpuward.agent.why_command import NoSuchServiceError, lines
from gpuward.v1 import agent_pb2, finding_pb2, report_pb2

NOW_S = 1_800_000_000
ROWS = (
    ("verdict", "thermal", {}),
    ("runner_up", "overload", {}),
    ("advice", "look at fans", {}),
    ("heat_slowdown", "for: heat holds the clocks down", {"value": 0.4, "unit": "ratio"}),
    ("clock_low", "for: the clock is low", {"value": 1.2e9, "unit": "hertz", "threshold": 1.6e9}),
    ("power_capped", "against: not so: the power limit holds (nothing)", {}),
    ("question_1", "yes: heat holds the clocks down", {}),
    ("question_2", "no", {}),
    ("question_3", "unknown: nobody can say whether requests are larger", {}),
    ("question_4", "no", {}),
    ("question_5", "no", {}),
)


def verdict(service="chat", endpoint="h:8000"):
    finding = finding_pb2.Finding(
        kind="service.latency.cause",
        subject=finding_pb2.Subject(node="n", service=service, endpoint=endpoint),
        summary=f"{service} at {endpoint} is slow: heat holds the clocks of a GPU down (GPU 0).",
        confidence=0.95,
        suggested_action=finding_pb2.SUGGESTED_ACTION_DRAIN_NODE,
        evidence=[
            finding_pb2.Evidence(name=name, text=text, source="nvml", **figures)
            for name, text, figures in ROWS
        ],
    )
    finding.since.FromSeconds(NOW_S - 100)
    return finding


class FakeAgent:
    """Serves chat and search, and has the findings that it is given."""

    def __init__(self, *findings):
        self.findings = findings

    def snapshot(self):
        snapshot = agent_pb2.Snapshot(
            findings=self.findings,
            service_totals=[report_pb2.ServiceTotals(service=one) for one in ("search", "chat")],
        )
        snapshot.at.FromSeconds(NOW_S)
        return snapshot


def shown(*findings, service="", width=80):
    return list(lines(FakeAgent(*findings), service, width=width, colours=False))


def test_a_verdict_reads_from_the_answer_to_the_evidence():
    assert shown(verdict()) == [
        "chat at h:8000 is slow: heat holds the clocks of a GPU down (GPU 0).",
        "  verdict: thermal, 95% certain",
        "  for: 100 s",
        "  runner-up: overload",
        "  do: look at fans",
        "  action: drain the node",
        "",
        "Runbook",
        "  1 yes      Is the GPU saturated, fragmented, held back or sick?",
        "             heat holds the clocks down",
        "  2 no       Is it overloaded?",
        "  3 unknown  Are requests suddenly larger?",
        "             nobody can say whether requests are larger",
        "  4 no       Is an upstream slow?",
        "  5 no       Would a rolling restart of its pods help?",
        "",
        "Evidence",
        "           what                              value     limit  by",
        "  for      heat holds the clocks down         40 %         -  nvml",
        "  for      the clock is low               1.20 GHz  1.60 GHz  nvml",
        "  against  not so: the power limit holds         -         -  nvml",
    ]


@pytest.mark.parametrize("width", [80, 60, 40])
def test_no_line_is_wider_than_the_terminal(width):
    assert max(len(line) for line in shown(verdict(), width=width)) <= width


def test_of_several_services_each_has_its_verdict_or_the_one_that_was_asked_for():
    both = (verdict(), verdict("search", "h:9000"))
    titles = [line for line in shown(*both) if " is slow: " in line]

    assert [line.split()[0] for line in titles] == ["chat", "search"]
    assert all("chat" not in line for line in shown(*both, service="search"))


def test_a_service_without_trouble_is_said_to_have_none():
    assert shown() == ["No trouble is seen with chat, search."]
    assert shown(verdict(), service="search") == ["No trouble is seen with search."]


def test_other_findings_are_not_a_verdict():
    slow = finding_pb2.Finding(kind="service.latency.inter_token")

    assert shown(slow) == ["No trouble is seen with chat, search."]


def test_a_service_that_nobody_knows_is_an_error_that_names_those_there_are():
    with pytest.raises(NoSuchServiceError, match=r"no service 'chta'.*there is chat, search"):
        shown(service="chta")


def test_without_an_agent_the_command_says_so(tmp_path):
    done = CliRunner().invoke(
        command_line, ["why", "--address", f"unix:{tmp_path}/a.sock", "--config", "/nowhere"]
    )

    assert done.exit_code == 1
    assert "no agent answers there" in done.output
