"""The coordinator's list of kinds is the agent's; they share no code."""

import json
from pathlib import Path

from gpuward.agent.kinds import KINDS

PATH = Path(__file__).parents[1] / "coordinator/gpuward/coordinator/known_kinds.json"


def test_golden_known_kinds(request):
    """Rewritten by `make golden`."""
    text = json.dumps({k: v.default_class.value for k, v in sorted(KINDS.items())}, indent=1) + "\n"
    if request.config.getoption("--golden-update"):
        PATH.write_text(text)

    assert text == PATH.read_text(), "run: make golden"
