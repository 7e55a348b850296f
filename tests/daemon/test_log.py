"""Log lines: one JSON object with the priority that journald reads."""

import json
import subprocess
import sys

SCRIPT = """
import structlog
from gpuward.daemon import log
log.configure(level="info")
logger = structlog.get_logger()
logger.debug("never.seen")
logger.warning("probe.timed_out", gpu="GPU-1", after_s=30)
"""


def test_a_line_is_priority_and_json():
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=15
    ).stderr

    (line,) = out.splitlines()
    fields = json.loads(line.removeprefix("<4>"))
    assert line.startswith("<4>{")
    assert (fields["event"], fields["gpu"], fields["after_s"]) == ("probe.timed_out", "GPU-1", 30)
