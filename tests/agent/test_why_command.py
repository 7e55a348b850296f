"""`gpuward agent why`: the verdict as a person reads it, in 80 columns."""

from __future__ import annotations

import grpc
import pytest
from click.testing import CliRunner

from gpuward.agent.__main__ import agent as command_line
from gpuward.agent.why_command import NoSuchServiceError, lines
from gpuward.v1 import agent_pb2, agent_pb2_grpc, finding_pb2, report_pb2

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
    """Serves chat and search, and has the findings that it is given; looks are by service."""

    def __init__(self, *findings, looks=()):
        self.findings = findings
        self.looks = looks
        self.stub = agent_pb2_grpc.AgentServiceStub(grpc.insecure_channel("unix:/nowhere"))

    def ask(self, method, request):
        assert method is self.stub.GetCauses
        found = [it for it in self.looks if request.service in ("", it.subject.service)]
        return agent_pb2.GetCausesResponse(replicas=found)

    def snapshot(self):
        snapshot = agent_pb2.Snapshot(
            findings=self.findings,
            service_totals=[report_pb2.ServiceTotals(service=one) for one in ("search", "chat")],
        )
        snapshot.at.FromSeconds(NOW_S)
        return snapshot


def shown(*findings, service="", width=80, looks=()):
    agent = FakeAgent(*findings, looks=looks)
    return list(lines(agent, service, width=width, colours=False))


def sign(name, text, decibans):
    return agent_pb2.CauseSign(
        evidence=finding_pb2.Evidence(name=name, text=text), decibans=decibans
    )


def look(service="chat", endpoint="h:8000", **more):
    """What is considered of a replica that is hot, and perhaps overloaded."""
    causes = [
        agent_pb2.PossibleCause(
            name="thermal",
            says="heat holds the clocks of a GPU down",
            decibans=30.0,
            signs=[
                sign("heat_slowdown", "for: heat holds the clocks down (GPU 0: 40 %)", 25.0),
                sign("clock_low", "for: the clock is low", 8.0),
                sign("inter_token_slow", "against: not so: tokens come slower", -3.0),
            ],
        ),
        agent_pb2.PossibleCause(name="overload", says="more requests come", decibans=5.5),
        agent_pb2.PossibleCause(
            name="gpu_lost", says="it is gone", ruled_out="not so: a GPU cannot be reached"
        ),
        agent_pb2.PossibleCause(
            name="fragmentation", says="it is in pieces", unknown="memory is in pieces"
        ),
    ]
    about = finding_pb2.Subject(service=service, endpoint=endpoint)
    fields = {"in_trouble": True, "verdict": "thermal", "confidence": 0.9, "causes": causes}
    return agent_pb2.ReplicaCauses(subject=about, next_test="ask the cooling", **(fields | more))


POSSIBLE = [
    "",
    "Under consideration",
    "  thermal, 30 decibans: heat holds the clocks of a GPU down",
    "      for      25  heat holds the clocks down",
    "      for       8  the clock is low",
    "      against   3  not so: tokens come slower",
    "  overload, 6 decibans: more requests come",
    "  next test: ask the cooling",
]
RULED_OUT = [
    "",
    "Ruled out",
    "  gpu_lost                 not so: a GPU cannot be reached",
]
UNSEEN = [
    "",
    "Nobody can say whether",
    "  fragmentation            memory is in pieces",
]


def test_beside_a_verdict_stands_what_else_it_could_be():
    assert shown(verdict(), looks=[look()]) == [*shown(verdict()), *POSSIBLE]


def test_of_a_service_that_is_asked_for_it_is_told_what_it_is_not_and_what_nobody_sees():
    told = shown(verdict(), looks=[look()], service="chat")

    assert told == [*shown(verdict()), *POSSIBLE, *RULED_OUT, *UNSEEN]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        pytest.param("thermal", "thermal, 90% certain", id="a cause"),
        pytest.param("undetermined", "undetermined", id="nobody knows"),
    ],
)
def test_trouble_that_is_not_raised_yet_is_told_as_such(said, words):
    told = shown(looks=[look(verdict=said)], width=100)

    assert told[0] == f"chat at h:8000 is in trouble, not raised yet: {words}"
    assert told[1:] == POSSIBLE


@pytest.mark.parametrize(
    ("service", "more"),
    [
        pytest.param("", [], id="of all services a line"),
        pytest.param("chat", UNSEEN, id="of one also what nobody sees"),
    ],
)
def test_a_replica_that_is_well_is_said_to_be_not_slow(service, more):
    well = look(in_trouble=False, verdict="undetermined")

    assert shown(looks=[well], service=service) == ["chat at h:8000: nothing is slow.", *more]


def test_those_in_trouble_come_first():
    well = look(endpoint="h:7000", in_trouble=False)
    told = shown(verdict(), looks=[well, look()])

    assert told[-2:] == ["", "chat at h:7000: nothing is slow."]


def test_nobody_is_certain_of_not_knowing():
    unsure = verdict()
    unsure.evidence[0].text = "undetermined"

    assert "  verdict: undetermined" in shown(unsure)


def test_when_nothing_fits_it_is_said_that_nothing_is_known():
    nothing = look(verdict="undetermined", causes=[])

    assert shown(looks=[nothing])[-3:] == [
        "Under consideration",
        "  nothing: no known cause shows",
        "  next test: ask the cooling",
    ]


def test_a_single_cause_needs_no_test_to_tell_it_apart():
    alone = look(causes=[agent_pb2.PossibleCause(name="thermal", says="heat", decibans=25.0)])

    assert not any("next test" in line for line in shown(looks=[alone]))


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
    told = shown(verdict(), width=width, looks=[look()], service="chat")

    assert max(len(line) for line in told) <= width


def test_of_several_services_each_has_its_verdict_or_the_one_that_was_asked_for():
    both = (verdict(), verdict("search", "h:9000"))
    titles = [line for line in shown(*both) if " is slow: " in line]

    assert [line.split()[0] for line in titles] == ["chat", "search"]
    assert all("chat" not in line for line in shown(*both, service="search"))


def test_a_service_of_which_no_replica_is_seen_is_not_called_well():
    assert shown() == ["No replica is seen of any service: see [[engines]]."]
    assert shown(verdict(), service="search") == ["No replica is seen of search: see [[engines]]."]


def test_other_findings_are_not_a_verdict():
    slow = finding_pb2.Finding(
        kind="service.latency.inter_token",
        subject=finding_pb2.Subject(service="chat", endpoint="h:8000"),
    )

    assert shown(slow, looks=[look(in_trouble=False)]) == ["chat at h:8000: nothing is slow."]


def test_a_service_that_nobody_knows_is_an_error_that_names_those_there_are():
    with pytest.raises(NoSuchServiceError, match=r"no service 'chta'.*there is chat, search"):
        shown(service="chta")


def test_without_an_agent_the_command_says_so(tmp_path):
    done = CliRunner().invoke(
        command_line, ["why", "--address", f"unix:{tmp_path}/a.sock", "--config", "/nowhere"]
    )

    assert done.exit_code == 1
    assert "no agent answers there" in done.output
