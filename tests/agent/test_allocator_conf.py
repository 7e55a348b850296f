"""What PYTORCH_ALLOC_CONF sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent.allocator_conf import AllocatorConf, parse_allocator_conf

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", AllocatorConf(), id="nothing"),
        pytest.param("expandable_segments:True", AllocatorConf(expandable=True), id="expandable"),
        pytest.param("expandable_segments:False", AllocatorConf(), id="not expandable"),
        pytest.param("max_split_size_mb:256", AllocatorConf(False, 256 * MIB), id="max split"),
        pytest.param("max_split_size_mb:0", AllocatorConf(), id="0 is not set"),
        pytest.param("max_split_size_mb:1.5", AllocatorConf(), id="not a whole number"),
        pytest.param("max_split_size_mb:" + "9" * 10, AllocatorConf(), id="too long a number"),
        pytest.param(
            "expandable_segments:True, max_split_size_mb : 512",
            AllocatorConf(True, 512 * MIB),
            id="both, with blanks",
        ),
        pytest.param(
            "max_split_size_mb:64,max_split_size_mb:128", AllocatorConf(False, 128 * MIB), id="last"
        ),
        pytest.param("my_max_split_size_mb:64", AllocatorConf(), id="another key"),
        pytest.param(
            "roundup_power2_divisions:4", AllocatorConf(roundup_divisions=4), id="divisions"
        ),
        pytest.param("roundup_power2_divisions:0", AllocatorConf(), id="no divisions"),
        pytest.param(
            "roundup_power2_divisions:[256:1,512:2,>:8],expandable_segments:True",
            AllocatorConf(expandable=True, roundup_divisions=1),
            id="divisions by size: the coarsest",
        ),
        pytest.param("roundup_power2_divisions:[", AllocatorConf(), id="a list without its end"),
    ],
)
def test_parse(text, expected):
    assert expected == parse_allocator_conf(text)


@given(st.text(":,[]> expandsgmtruf_ilzbo0123456789", max_size=256))
def test_any_text_is_read(text):
    """The writer is not trusted: numbers stay small, nothing raises."""
    found = parse_allocator_conf(text)

    assert (found.max_split_size_bytes or 0) < 2**50
    assert (found.roundup_divisions or 0) < 2**20
