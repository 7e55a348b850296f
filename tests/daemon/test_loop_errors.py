"""What asyncio catches is one line in our log, however often it comes."""

import asyncio

import pytest
import structlog

from gpuward.daemon import serve
from gpuward.daemon.loop_errors import LoopErrors
from gpuward.daemon.repeats import MAX_WORDS, SAID_AGAIN_AFTER_S

NO_DESCRIPTOR = {"message": "out of system resource", "exception": OSError(24, "Too many")}


class Loop:
    now_s = 5.0

    def time(self):
        return self.now_s


@pytest.fixture
def said():
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_the_same_words_are_said_once_a_minute_with_their_number(said):
    loop, errors = Loop(), LoopErrors()
    for _ in range(1_000):
        errors(loop, NO_DESCRIPTOR)
    assert [line["unsaid"] for line in said] == [0]

    loop.now_s += SAID_AGAIN_AFTER_S
    errors(loop, NO_DESCRIPTOR)

    assert [line["unsaid"] for line in said] == [0, 999]
    assert said[0]["what"] == "out of system resource"
    assert said[0]["reason"] == "OSError: [Errno 24] Too many"
    assert "exc_info" not in said[0]


def test_a_mistake_of_ours_keeps_its_traceback(said):
    mistake = ValueError("no such gpu")

    LoopErrors()(Loop(), {"message": "Task exception was never retrieved", "exception": mistake})

    assert said[0]["exc_info"] is mistake


def test_words_that_never_repeat_are_not_kept_for_ever(said):
    errors = LoopErrors()
    for number in range(10 * MAX_WORDS):
        errors(Loop(), {"message": f"number {number}"})

    assert len(said) == 10 * MAX_WORDS
    assert len(errors._repeats._said) <= MAX_WORDS


def test_a_service_has_it(said):
    async def main(_stop):
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    serve.run(main)

    assert [(line["event"], line["reason"]) for line in said] == [
        ("loop.error", "ZeroDivisionError: division by zero")
    ]
