"""When maintenance begins and ends, by whose word, and what outlives the process."""

from __future__ import annotations

import os

import pytest
from structlog.testing import capture_logs

from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.daemon.testing import FakeClock

DAY_S = 86_400.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "maintenance.json"


@pytest.fixture
def keeper(path, clock):
    return MaintenanceKeeper(path, clock)


@pytest.fixture
def restarted(path, written):
    """Return a function that starts another process so much later, perhaps in another boot."""

    def start(*, after_s=0.0, mono_s=50.0):
        written()
        return MaintenanceKeeper(path, FakeClock(wall_s=1_800_000_000.0 + after_s, mono_s=mono_s))

    return start


def test_a_release_lasts_as_long_as_was_said(keeper):
    keeper.begin_release(1_800.0, "new driver")

    found = keeper.now(2_799.9)
    assert (found.since_s, found.until_s, found.reason) == (1_000.0, 2_800.0, "new driver")
    assert keeper.is_released(2_799.9)
    assert keeper.now(2_800.0) is None


def test_a_release_lasts_a_day_at_most(keeper):
    assert keeper.begin_release(10 * DAY_S, "holidays").until_s == 1_000.0 + DAY_S


async def test_said_again_it_has_another_end_and_the_same_beginning(keeper, clock):
    keeper.begin_release(600.0, "new driver")
    await clock.advance(500.0)
    again = keeper.begin_release(600.0, "takes longer")

    assert (again.since_s, again.until_s, again.reason) == (1_000.0, 2_100.0, "takes longer")


def test_it_can_be_ended(keeper, restarted):
    keeper.begin_release(600.0, "new driver")
    keeper.end_release()
    keeper.end_release()

    assert keeper.now(1_000.0) is None
    assert restarted().now(50.0) is None


@pytest.mark.parametrize(
    ("after_s", "left_s"),
    [
        pytest.param(0.0, 1_800.0, id="at once"),
        pytest.param(1_000.0, 800.0, id="after a reboot"),
        pytest.param(1_800.0, None, id="when it is over"),
        pytest.param(-10 * DAY_S, DAY_S, id="the clock was set back: a day at most"),
    ],
)
def test_it_outlives_the_process(keeper, restarted, after_s, left_s):
    """Its end is a time of the wall clock: the monotonic one begins anew with each boot."""
    keeper.begin_release(1_800.0, "new driver")
    found = restarted(after_s=after_s).now(50.0)

    assert (found and (found.until_s - 50.0, found.reason, found.is_release)) == (
        left_s and (left_s, "new driver", True)
    )


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"until_wall_s": "x"}'])
def test_a_file_that_is_none_is_no_maintenance(path, restarted, content):
    path.write_bytes(content)
    with capture_logs() as logs:
        assert restarted().now(50.0) is None

    assert [entry["event"] for entry in logs] == ["maintenance.unreadable"]


def test_a_full_disk_does_not_keep_it_from_being_in_force(tmp_path, clock, written):
    keeper = MaintenanceKeeper(tmp_path / "missing" / "maintenance.json", clock)
    with capture_logs() as logs:
        keeper.begin_release(600.0, "new driver")
        written()

    assert keeper.is_released(1_000.0)
    assert "state_file.not_written" in [entry["event"] for entry in logs]


def test_a_disk_that_hangs_neither(keeper, path, written):
    """Who waits for the answer waits a moment only; a pipe hangs until somebody reads it."""
    pipe = path.with_suffix(".tmp")
    os.mkfifo(pipe)
    keeper.begin_release(600.0, "new driver")
    is_kept = path.exists()
    pipe.read_bytes()
    written()

    assert not is_kept
    assert keeper.is_released(1_000.0)


def test_a_reload_is_over_when_the_driver_is_back(keeper):
    keeper.reload_began(1_000.0, "unloaded")
    during = keeper.now(1_001.0)
    keeper.reload_is_over()

    assert (during.reason, during.is_release) == ("unloaded", False)
    assert not keeper.is_released(1_001.0)
    assert keeper.now(1_002.0) is None


def test_a_reload_that_takes_more_than_ten_minutes_is_none(keeper):
    keeper.reload_began(1_000.0, "unloaded")
    keeper.reload_began(1_500.0, "unloaded again, before it was back")

    assert keeper.now(1_599.9) is not None
    assert keeper.now(1_600.0) is None


def test_a_reload_ends_with_the_process(keeper, restarted):
    """A process that starts finds out by itself how the driver is."""
    keeper.reload_began(1_000.0, "unloaded")

    assert restarted().now(50.0) is None


def test_a_release_goes_before_a_reload(keeper):
    """The driver is unloaded while it is released: that ends nothing."""
    keeper.begin_release(1_800.0, "new driver")
    keeper.reload_began(1_100.0, "unloaded")
    keeper.reload_is_over()

    assert keeper.now(1_200.0).reason == "new driver"
