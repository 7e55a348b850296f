"""A state folder that keeps nothing does not go unnoticed: deleted, never made, or read-only."""

from __future__ import annotations

import shutil

import pytest
from structlog.testing import capture_logs

from gpuward.agent.model import Result
from gpuward.agent.state_watch import StateWatch


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "spool.db").write_text("kept")
    return folder


@pytest.fixture
async def watch(folder, clock, components):
    watch = StateWatch(folder, (folder / "spool.db", folder / "none"), clock, components)
    yield watch
    await watch.close()


async def health(watch, components):
    """Look once; return what is shown of it."""
    with components.contain("state"):
        await watch.look()
    (shown,) = components.health
    return shown.result, shown.reason


def delete(folder):
    shutil.rmtree(folder)


def delete_the_spool(folder):
    (folder / "spool.db").unlink()


def replace(folder):
    folder.rename(folder.with_name("old"))
    folder.mkdir()
    (folder / "spool.db").touch()


def write(folder):
    (folder / "spool.db").write_text("more")
    (folder / "another").touch()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        pytest.param(delete, "state was deleted", id="deleted"),
        pytest.param(delete_the_spool, "spool.db was deleted", id="the spool alone"),
        pytest.param(replace, "state was replaced by another", id="another in its place"),
        pytest.param(write, "", id="written to"),
    ],
)
async def test_what_became_of_the_folder(watch, components, folder, what, words):
    before = await health(watch, components)
    what(folder)
    result, reason = await health(watch, components)

    assert before == (Result.OK, "")
    assert result is (Result.FAIL if words else Result.OK)
    assert words in reason
    assert bool(words) is ("restart the agent" in reason)


async def test_it_is_said_once_and_when_it_is_over(watch, components, folder):
    """One line for its going and one for its coming back, however often it is looked for."""
    away = folder.with_name("away")
    with capture_logs() as said:
        for _ in range(2):
            await health(watch, components)
        folder.rename(away)
        for _ in range(3):
            await health(watch, components)
        away.rename(folder)
        for _ in range(2):
            shown = await health(watch, components)

    assert [line["event"] for line in said if line["event"].startswith("state.")] == [
        "state.not_kept",
        "state.kept_again",
    ]
    assert shown == (Result.OK, "")


async def test_a_folder_that_could_not_be_made(tmp_path, clock, components):
    watch = StateWatch(tmp_path / "state", (), clock, components)
    result, reason = await health(watch, components)
    await watch.close()

    assert result is Result.FAIL
    assert reason == (
        f"{tmp_path}/state could not be made: spool, history and what was learned end with this"
        " process: make it and restart the agent"
    )
