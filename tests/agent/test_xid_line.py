"""What an XID's line says beyond its code, as published logs and NVIDIA's decode sheet have it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.xid_line import NvlinkError, link_of, parse_nvlink, parse_recovery

TAIL = "(0x004505c6 0x00000002 0x00000000 0x00000000 0x00000000)"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            f"NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 {TAIL}",
            NvlinkError("NETIR_LINK_EVT", fatal=True, link=8, sub_code=4, status=2),
            id="fatal",
        ),
        pytest.param(
            f"RLW_REMAP       Nonfatal XC1 i0 Link -1 {TAIL}",
            NvlinkError("RLW_REMAP", fatal=False, link=None, sub_code=4, status=2),
            id="not fatal, about no single link",
        ),
        pytest.param(
            f"NETIR_LINK_EVT/NETIR_LINK_DOWN Link Fatal XC0 i0 Link 00 {TAIL}",
            NvlinkError("NETIR_LINK_EVT/NETIR_LINK_DOWN", fatal=True, link=0, sub_code=4, status=2),
            id="fatal to the link",
        ),
        pytest.param(
            "SAW_MVB Non-fatal XC0 i0 Link 17 (0x1 0x4 0x0)",
            NvlinkError("SAW_MVB", fatal=False, link=17, sub_code=0, status=4),
            id="short numbers",
        ),
        pytest.param(f"SAW_MVB Worse XC0 i0 Link 01 {TAIL}", None, id="another severity"),
        pytest.param("SAW_MVB Fatal XC0 i0 Link 01", None, id="no registers"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_nvlink(text, error):
    assert parse_nvlink(text) == error


@pytest.mark.parametrize(
    ("text", "link"),
    [
        pytest.param("NVLink: fatal error detected on link 3(0x10000, 0x0)", 3, id="NVLink 4"),
        pytest.param(f"SAW_MVB Nonfatal XC0 i0 Link 08 {TAIL}", 8, id="NVLink 5"),
        pytest.param(f"SAW_MVB Nonfatal XC0 i0 Link -1 {TAIL}", None, id="NVLink 5, no link"),
        pytest.param("GPU has fallen off the bus.", None, id="none"),
    ],
)
def test_link_of(text, link):
    assert link_of(text) == link


@pytest.mark.parametrize(
    ("text", "now"),
    [
        pytest.param(
            "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", 1, id="reset"
        ),
        pytest.param(
            "GPU recovery action changed from 0x2 (Node Reboot) to 0x0 (None)",
            0,
            id="over",
        ),
        pytest.param("GPU recovery action changed", None, id="cut off"),
    ],
)
def test_recovery(text, now):
    assert parse_recovery(text) == now


@given(st.text() | st.text(alphabet="Link Fatal0x()XCi-_/"))
def test_parsers_never_raise(text):
    """A line from outside is what it seems to be, or nothing; no number is beyond its field."""
    error = parse_nvlink(text)
    assert error is None or (error.sub_code < 64 and error.status < 1 << 32)
    link = link_of(text)
    assert link is None or 0 <= link < 1_000
    now = parse_recovery(text)
    assert now is None or 0 <= now < 1 << 32
