"""docs/engines.md says what the maps say, and its examples are good."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engines.engine_map import DurationName, FigureName
from gpuward.agent.engines.shipped import KINDS, shipped

TEXT = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
CELLS = {
    line.split("|")[1].strip(): line.split("|")[2:-1] for line in TEXT.splitlines() if "|" in line
}


@pytest.mark.parametrize("name", [*get_args(FigureName), *get_args(DurationName)])
def test_what_each_kind_tells(name):
    """A cell is empty where the map of its column does not have the row."""
    kinds = re.search(r"^\| \| (.*) \|$", TEXT, re.MULTILINE)[1].split(" | ")
    told = dict(zip(kinds, (bool(cell.strip()) for cell in CELLS[f"`{name}`"]), strict=True))

    assert told == {
        kind: name in shipped(kind).figures or name in shipped(kind).durations for kind in KINDS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_page_is(kind):
    page, _, health = CELLS[f"`{kind}`"]

    assert page.strip().startswith(f"`{shipped(kind).page}`")
    assert health.strip().startswith(f"`{shipped(kind).health}`" if shipped(kind).health else "set")


def test_examples():
    examples = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)

    engines = [msgspec.convert(tomllib.loads(one)["engines"][0], EngineConfig) for one in examples]
    assert [engine.kind for engine in engines] == ["auto", "openmetrics"]
    assert len(engines[1].map.figures) == 3
