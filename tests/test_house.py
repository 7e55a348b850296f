"""The house stands as its plan says: folders, namespace, generated code, documents."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PORTIONS = [
    "agent/gpuward/agent",
    "agent/tap/gpuward/tap",
    "coordinator/gpuward/coordinator",
    "daemon/gpuward/cli",
    "daemon/gpuward/daemon",
    "daemon/gpuward/memory_map",
    "native/gpuward/native",
    "native/simulator/gpuward/simulator",
    "protos/gpuward/v1",
]


def sources(pattern="*.py"):
    for portion in PORTIONS:
        yield from (p for p in (ROOT / portion).rglob(pattern) if "_pb2" not in p.name)


def test_gpuward_is_a_namespace_that_nobody_owns():
    """One stray __init__.py would hide every other distribution's portion."""
    namespaces = [(ROOT / portion).parent for portion in PORTIONS]
    strays = [str(path) for path in namespaces if (path / "__init__.py").exists()]

    assert [] == strays


@pytest.mark.parametrize("portion", PORTIONS)
def test_each_portion_is_a_typed_package(portion):
    assert (ROOT / portion / "__init__.py").is_file()
    assert (ROOT / portion / "py.typed").is_file()


def test_the_generated_code_is_fresh(tmp_path):
    """Regenerating the protos gives byte for byte what is committed."""
    subprocess.run([ROOT / ".ci/generate-protos", tmp_path], check=True, timeout=200)

    generated = sorted((tmp_path / "gpuward/v1").glob("*_pb2*"))
    stale = [
        p.name
        for p in generated
        if p.read_bytes() != (ROOT / "protos/gpuward/v1" / p.name).read_bytes()
    ]

    # Messages and services, each with its types, of six files.
    assert len(generated) == 24
    assert stale == [], "run: make proto"


def test_golden_documents_are_fresh(tmp_path, request):
    """docs/{metrics,findings,configuration}.md say what the code's tables say."""
    subprocess.run([sys.executable, ROOT / ".ci/generate-docs", tmp_path], check=True, timeout=200)

    stale = [
        p.name for p in tmp_path.iterdir() if p.read_text() != (ROOT / "docs" / p.name).read_text()
    ]

    assert stale == [] or request.config.getoption("--golden-update"), "run: make golden"


def test_every_module_says_what_it_is_for():
    silent = [
        str(p)
        for p in sources()
        if not ast.get_docstring(ast.parse(p.read_text())) and p.stat().st_size
    ]

    assert silent == []


def test_no_file_has_grown_past_one_idea():
    """STYLE: 300 lines is where a file is split."""
    long = {
        str(p.relative_to(ROOT)): n
        for p in sources()
        if (n := len(p.read_text().splitlines())) > 300
    }

    assert long == {}


def test_nothing_is_left_for_later():
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    found = [str(p) for p in sources() if marks.search(p.read_text())]

    assert [] == found


def swallows_everything(node):
    """Whether ``node`` is an ``except Exception`` that does not raise again."""
    if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
        return False
    return node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")


def test_everything_is_caught_in_one_place_only():
    """Around samplers, detectors and probes; and where the tap walls itself off from its host."""
    found = {
        str(p.relative_to(ROOT))
        for p in sources()
        for node in ast.walk(ast.parse(p.read_text()))
        if swallows_everything(node)
    }

    assert {
        "agent/gpuward/agent/component.py",
        "agent/tap/gpuward/tap/plugin.py",
        "agent/tap/gpuward/tap/ticker.py",
    } >= found


def test_the_python_floor_of_the_tap_is_below_the_agents():
    """The tap goes into images whose Python we do not choose."""
    floors = [
        tomllib.loads((ROOT / path).read_text())["project"]["requires-python"]
        for path in ("pyproject.toml", "agent/tap/pyproject.toml")
    ]

    assert floors == [">=3.11", ">=3.9"]
