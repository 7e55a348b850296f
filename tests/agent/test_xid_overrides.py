"""What a site says of codes: taken as it stands, or refused with the place and the mend."""

from __future__ import annotations

import msgspec
import pytest

from gpuward.agent.config import AgentConfig
from gpuward.agent.model import Result
from gpuward.agent.xid_catalogue import Fault


def read(text):
    return msgspec.toml.decode(text, type=AgentConfig).xid.catalogue()


@pytest.mark.parametrize(
    ("text", "fault", "result", "why"),
    [
        pytest.param("", Fault.APPLICATION, Result.OK, "", id="as NVIDIA has it"),
        pytest.param('class = "drain"', Fault.DRAIN, Result.OK, "", id="whose fault"),
        pytest.param('result = "fail"', Fault.APPLICATION, Result.FAIL, "", id="how bad"),
        pytest.param('note = "Ours."', Fault.APPLICATION, Result.OK, "Ours.", id="why"),
    ],
)
def test_override(text, fault, result, why):
    """What is left out stays as the catalogue has it."""
    xid = read(f"[xid.overrides.31]\n{text}" if text else "")[31]

    assert (xid.fault, xid.result, xid.why) == (fault, result, why)
    assert xid.meaning == "MMU page fault"


def test_a_number_that_is_in_no_catalogue():
    assert read('[xid.overrides.900]\nresult = "ok"')[900].result is Result.OK


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("[xid.overrides.31]", "changes nothing", id="nothing said"),
        pytest.param('[xid.overrides.mmu]\nresult = "ok"', "'mmu' is not the number", id="a word"),
        pytest.param('[xid.overrides.123456]\nresult = "ok"', "'123456' is not", id="too large"),
        pytest.param('[xid.overrides.31]\nresult = "bad"', "enum value 'bad'", id="no result"),
        pytest.param('[xid.overrides.31]\nclass = "mine"', "enum value 'mine'", id="no class"),
        pytest.param('[xid.overrides.31]\nfault = "drain"', "field `fault`", id="no such setting"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(msgspec.ValidationError, match=reason):
        read(text)
