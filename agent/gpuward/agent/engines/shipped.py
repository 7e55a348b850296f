"""The maps of the engines that gpuward knows, by kind, and which of them a page is of."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from gpuward.agent.engines.engine_map import EngineMap
from gpuward.daemon.config import parse

FOLDER = Path(__file__).with_name("maps")
# In this order they are looked for: a worker of Dynamo shows its engine's metrics beside its own.
KINDS = ("vllm", "sglang", "trtllm", "triton", "tgi", "ray", "llama.cpp", "dynamo")


@cache
def shipped(kind: str) -> EngineMap:
    """Return the map of ``kind``."""
    path = FOLDER / f"{kind}.toml"
    return parse(path.read_text(encoding="utf-8"), EngineMap, name=path.name)


def pages() -> tuple[str, ...]:
    """Return the paths at which engines have their pages, the most usual first."""
    return tuple(dict.fromkeys(shipped(kind).page for kind in KINDS))


def recognised(page: str) -> str:
    """Return the kind whose metrics are on ``page``, empty when it is none's."""
    return next((kind for kind in KINDS if _signs(kind).search(page)), "")


@cache
def _signs(kind: str) -> re.Pattern[str]:
    names = "|".join(map(re.escape, shipped(kind).recognised_by))
    return re.compile(rf"^(?:# TYPE )?(?:{names})[ {{]", re.MULTILINE)
