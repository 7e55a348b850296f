"""The maps of the engines that gpuward knows, by kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from gpuward.agent.engines.engine_map import EngineMap
from gpuward.daemon.config import parse

FOLDER = Path(__file__).with_name("maps")


@cache
def shipped(kind: str) -> EngineMap:
    """Return the map of ``kind``, the name of a file in ``maps``."""
    path = FOLDER / f"{kind}.toml"
    return parse(path.read_text(encoding="utf-8"), EngineMap, name=path.name)
