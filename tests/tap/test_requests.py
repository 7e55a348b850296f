"""The mailbox: whose questions count, and how an answer comes to be there."""

from __future__ import annotations

import os
import time

import pytest

from gpuward.tap.map_layout import MemoryMap, Request, pack_request, unpack_map
from gpuward.tap.requests import Requests

NONCE = bytes(range(16))
LATER = time.time_ns() + 10**12


@pytest.fixture
def tap_file(tmp_path):
    return tmp_path / "0b9c5b45-9f5d-4f0c-8d0f-3c5fc1a3a001.tap"


@pytest.fixture
def requests(tap_file):
    return Requests(tap_file)


@pytest.fixture
def question(tap_file):
    return tap_file.with_suffix(".req")


@pytest.fixture
def answer(tap_file):
    return tap_file.with_suffix(".map")


def test_a_question(requests, question):
    question.write_bytes(pack_request(Request(NONCE, LATER, 9)))

    assert requests.look() == Request(NONCE, LATER, 9)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x" * 48, id="noise"),
        pytest.param(pack_request(Request(NONCE, LATER)) + bytes(17), id="too long"),
        pytest.param(pack_request(Request(NONCE, LATER))[:47], id="too short"),
        pytest.param(pack_request(Request(NONCE, 1)), id="too late"),
    ],
)
def test_no_question(requests, question, content):
    question.write_bytes(content)

    assert requests.look() is None


def test_nothing_there(requests):
    assert requests.look() is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file_is_no_question(requests, question, make):
    make(question)

    assert requests.look() is None


def test_a_link_is_no_question(requests, question, tmp_path):
    (tmp_path / "elsewhere").write_bytes(pack_request(Request(NONCE, LATER)))
    question.symlink_to(tmp_path / "elsewhere")

    assert requests.look() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("directory_owner", "owner", "counts"),
    [
        pytest.param(0, 0, True, id="root asks"),
        pytest.param(1234, 0, True, id="root asks in an agent's directory"),
        pytest.param(1234, 1234, True, id="the directory's owner asks"),
        pytest.param(0, 1234, False, id="a stranger asks"),
    ],
)
def test_whose_question_counts(requests, question, directory_owner, owner, counts):
    question.write_bytes(pack_request(Request(NONCE, LATER)))
    os.chown(question.parent, directory_owner, 0)
    os.chown(question, owner, 0)

    assert (requests.look() is not None) is counts


def test_an_answer(requests, question, answer):
    """Once for each question; only the agent's group may read it; it goes with the process."""
    question.write_bytes(pack_request(Request(NONCE, LATER)))
    requests.answer(MemoryMap(NONCE, 1, 2))
    requests.answer(MemoryMap(NONCE, 3, 4))

    assert unpack_map(answer.read_bytes()).taken_mono_ns == 1
    assert 0o640 == answer.stat().st_mode & 0o777
    assert requests.look() is None
    requests.close()
    assert [question] == [*question.parent.iterdir()]


def test_the_next_answer_replaces_the_last(requests, answer):
    requests.answer(MemoryMap(NONCE, 1, 2))
    requests.answer(MemoryMap(bytes(16), 3, 4))

    assert unpack_map(answer.read_bytes()).taken_mono_ns == 3


def test_what_a_failed_answer_left_is_in_nobody_s_way(requests, answer):
    answer.with_suffix(".map.tmp").write_text("half")
    requests.answer(MemoryMap(NONCE, 1, 2))

    assert [answer] == [*answer.parent.iterdir()]


def test_an_answer_that_cannot_be_written_leaves_nothing(requests, answer):
    answer.mkdir()
    requests.answer(MemoryMap(NONCE, 1, 2))

    assert [answer] == [*answer.parent.iterdir()]
    requests.close()
