"""Dashboards have Grafana's shape, and ask Prometheus only for what agents show."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.json"))]
PANELS = {"row", "stat", "table", "timeseries"}
# What Grafana itself puts in.
BUILT_IN = {"__rate_interval", "datasource"}


def queries(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def variables(dashboard):
    return {each["name"]: each for each in dashboard["templating"]["list"]}


def overlap(one, other):
    a, b = one["gridPos"], other["gridPos"]
    return (
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )


def test_there_is_one_for_each_question():
    loaded = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]

    assert {"gpus", "latency", "memory", "nodes", "services"} == {
        p.stem for p in FOLDER.glob("*.json")
    }
    assert 5 == len({dashboard["uid"] for dashboard in loaded})


@pytest.mark.parametrize("path", DASHBOARDS)
def test_its_shape_is_grafanas(path):
    """Fields of the dashboard JSON model, and panels that lie beside one another."""
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]

    assert {"uid", "title", "schemaVersion", "templating", "time", "panels"} <= dashboard.keys()
    assert len(panels) == len({panel["id"] for panel in panels})
    assert PANELS >= {panel["type"] for panel in panels}
    assert all(0 <= p["gridPos"]["x"] <= 24 - p["gridPos"]["w"] for p in panels)
    assert [] == [(a["title"], b["title"]) for a, b in combinations(panels, 2) if overlap(a, b)]
    assert all(panel["targets"] for panel in panels if panel["type"] != "row")
    for target in (target for panel in panels for target in panel.get("targets", ())):
        assert {"type": "prometheus", "uid": "${datasource}"} == target["datasource"]


@pytest.mark.parametrize("path", DASHBOARDS)
def test_it_asks_for_metrics_that_there_are(path, known_metrics):
    dashboard = json.loads(path.read_text())
    asked = [v["query"]["query"] for v in variables(dashboard).values() if v["type"] == "query"]
    named = set(re.findall(r"gpuward_\w+", " ".join([*queries(dashboard), *asked])))

    assert len(named) >= 5
    assert set() == named - known_metrics


@pytest.mark.parametrize("path", DASHBOARDS)
def test_every_variable_is_defined_and_used(path):
    dashboard = json.loads(path.read_text())
    used = set(re.findall(r"\$\{?(\w+)", path.read_text()))

    assert used - BUILT_IN == set(variables(dashboard)) - BUILT_IN


@pytest.mark.debian
@pytest.mark.parametrize("path", DASHBOARDS)
def test_prometheus_understands_every_query(path, tmp_path):
    """promtool reads them as the rules of a file."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian package prometheus)")
    asked = [
        query.replace("$__rate_interval", "1m") for query in queries(json.loads(path.read_text()))
    ]
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(asked)]
    # JSON is YAML.
    rules_file = tmp_path / "rules.yml"
    rules_file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    done = subprocess.run(
        ["promtool", "check", "rules", rules_file], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(asked)} rules found" in done.stdout
