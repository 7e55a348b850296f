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
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=200
    ).stderr

    (line,) = out.splitlines()
    fields = json.loads(line.removeprefix("<4>"))
    assert line.startswith("<4>{")
    assert (fields["event"], fields["gpu"], fields["after_s"]) == ("probe.timed_out", "GPU-1", 30)


LIBRARY = """
import logging
from gpuward.daemon import log
log.configure()
library = logging.getLogger("uvicorn.error")
library.info("never seen")
for _ in range(1000):
    library.warning("Invalid HTTP request received.")
try:
    1 / 0
except ZeroDivisionError:
    library.exception("Exception in ASGI application")
"""


def test_what_libraries_say_is_a_line_too_and_not_a_thousand():
    out = subprocess.run(
        [sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True, timeout=200
    ).stderr

    warning, error = (json.loads(line[3:]) for line in out.splitlines())
    assert (warning["what"], warning["level"]) == ("Invalid HTTP request received.", "warning")
    assert (error["library"], error["level"], error["unsaid"]) == ("uvicorn.error", "error", 999)
    assert error["exception"].endswith("ZeroDivisionError: division by zero")


TRACEBACK = """
import asyncio, linecache
import structlog
from gpuward.daemon import log
log.configure()
try:
    asyncio.run(asyncio.wait_for(asyncio.sleep(9), 0.001))
except TimeoutError:
    structlog.get_logger().exception("turn.failed")
print(len(linecache.cache))
"""


def test_a_traceback_leaves_nothing_behind():
    """Else each file that is in one stays in memory with all of its lines."""
    run = subprocess.run(
        [sys.executable, "-c", TRACEBACK], capture_output=True, text=True, check=True, timeout=200
    )

    assert "await" in run.stderr
    assert run.stdout == "0\n"
