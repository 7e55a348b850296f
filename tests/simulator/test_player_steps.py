"""Steps about the kernel log, MIG devices and the driver's announcements."""

import pytest

from gpuward.daemon.config import parse
from gpuward.daemon.testing import FakeClock
from gpuward.simulator.children import RealChildren
from gpuward.simulator.player import Player
from gpuward.simulator.root_tree import RootTree
from gpuward.simulator.scenario import Scenario


@pytest.fixture
def play(make_state, tmp_path):
    """Play the steps at 0 s on a profile's machine; returns its state and kernel log."""
    players = []

    def begin(steps, profile="h100-sxm-x8"):
        state = make_state(profile)
        tree = RootTree(tmp_path / "root", state)
        tree.create()
        story = parse(f'profile = "{profile}"\n{steps}', Scenario, name="s.toml")
        player = Player(story, state, tree, clock=FakeClock(), children=RealChildren())
        players.append(player)
        player.begin()
        return state, (tmp_path / "root" / "dev" / "kmsg").read_text()

    begin.players = players
    yield begin
    for player in players:
        player.end()


def test_sxid(play):
    """A switch's line names switch and severity; no GPU has an event."""
    state, log = play('[[steps]]\nat_s = 0\ndo = "sxid"\ncode = 20034\nswitch = 2\nfatal = true\n')

    assert log.endswith(
        ";nvidia-nvswitch2: SXid (PCI:0000:85:00.0): 20034, Fatal, Link 30 LTSSM Fault Up\n"
    )
    assert state.row.event_count == 0


def test_a_flood(play):
    """Many lines at once have a sequence number each."""
    _, log = play(
        '[[steps]]\nat_s = 0\ndo = "kernel_lines"\ntext = "flood {n}"\ncount = 1000\n'
        '[[steps]]\nat_s = 0\ndo = "xid"\ncode = 79\ngpus = [0]\n'
    )
    lines = log.splitlines()

    assert lines[999].startswith("6,999,")
    assert lines[999].endswith(";flood 999")
    assert lines[1000].startswith("3,1000,")


def test_process_of_a_mig_device(play):
    """A process can be started on one of a GPU's MIG devices, and stays there when it grows."""
    state, _ = play(
        '[[steps]]\nat_s = 0\ndo = "start"\nprocess = "a"\nmemory_bytes = 4096\nmig_device = 2\n'
        '[[steps]]\nat_s = 0\ndo = "take"\nprocess = "a"\nmemory_bytes = 4096\n',
        "h100-mig-x1",
    )
    row = state.gpu(0).processes[0]

    assert (row.mig_device, row.memory_bytes) == (2, 8192)


def test_announcements(play):
    """The driver says that it leaves, and that it is back; it is not unloaded by that."""
    state, _ = play(
        '[[steps]]\nat_s = 0\ndo = "unbind"\n[[steps]]\nat_s = 0\ndo = "bind"\n'
        '[[steps]]\nat_s = 0\ndo = "bind"\n'
    )

    assert (state.row.unbind_count, state.row.bind_count, state.row.driver_loaded) == (1, 2, 1)


def test_traffic_is_counted(play):
    """Bytes over PCIe are the rate over time."""
    state, _ = play(
        '[[steps]]\nat_s = 0\ndo = "set"\ngpus = [0]\n'
        "values = { pcie_receive_kilobytes_per_second = 2_000_000 }\n"
    )
    play.players[0]._play_until(10.0)

    assert state.gpu(0).pcie_receive_bytes == pytest.approx(20e9, rel=0.02)
    assert state.gpu(0).pcie_transmit_bytes == 0
