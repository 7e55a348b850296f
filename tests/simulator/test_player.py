"""Playing a scenario: everything happens at its time, on the fake clock."""

import asyncio
import signal

import pytest

from gpuward.daemon.config import parse
from gpuward.daemon.testing import FakeClock
from gpuward.simulator import scenario
from gpuward.simulator.player import Player
from gpuward.simulator.root_tree import RootTree
from gpuward.simulator.scenario import Scenario

HEAD = 'profile = "h100-sxm-x8"\n'


class FakeChildren:
    """Gives out the pids of processes that sleep; remembers what was asked."""

    def __init__(self, spawn):
        self._spawn = spawn
        self.processes = {}
        self.asked = []

    def start(self, name, command):
        if command == ["missing"]:
            raise FileNotFoundError(2, "No such file or directory", "missing")
        self.asked.append(("start", name, *command))
        self.processes[name] = self._spawn()
        return self.processes[name].pid

    def pid(self, name):
        process = self.processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def send(self, name, number):
        self.asked.append(("send", name, number))

    def reap(self):
        pass

    def end(self):
        self.asked.append(("end",))


class Stage:
    """A machine, a clock and a player."""

    def __init__(self, state, root, children):
        self.state = state
        self.tree = RootTree(root, state)
        self.tree.create()
        self.root = root
        self.clock = FakeClock()
        self.children = children

    def play(self, text, *, name="s.toml"):
        story = text if isinstance(text, Scenario) else parse(HEAD + text, Scenario, name=name)
        self.player = Player(story, self.state, self.tree, clock=self.clock, children=self.children)

    async def at(self, seconds, read):
        """Play, and return what ``read`` returns at each of ``seconds``."""
        self.player.begin()
        seen, played_s = [], 0.0
        async with asyncio.TaskGroup() as group:
            playing = group.create_task(self.player.run())
            for each in seconds:
                await self.clock.advance(each - played_s)
                played_s = each
                seen.append(read())
            playing.cancel()
        return seen

    async def until(self, second):
        await self.at([second], lambda: None)

    def kernel_log(self):
        return (self.root / "dev" / "kmsg").read_text()


@pytest.fixture
def stage(state, tmp_path, child):
    return Stage(state, tmp_path / "root", FakeChildren(child))


async def test_set(stage):
    """A field changes at its second, not before, on the GPUs named."""
    stage.play('[[steps]]\nat_s = 5\ndo = "set"\ngpus = [1]\nvalues = { temperature_celsius = 70 }')

    seen = await stage.at(
        [0, 4.9, 5.1],
        lambda: (stage.state.gpu(0).temperature_celsius, stage.state.gpu(1).temperature_celsius),
    )
    assert seen == [(31, 31), (31, 31), (31, 70)]


async def test_what_happens_at_zero_has_happened_before_the_command(stage):
    """Steps at 0 s need no passing of time."""
    stage.play('[[steps]]\nat_s = 0\ndo = "lost"\ngpus = [3]')
    stage.player.begin()

    assert [stage.state.gpu(index).lost for index in range(8)] == [0, 0, 0, 1, 0, 0, 0, 0]


async def test_ramp(stage):
    """A ramp is a straight line from what is to what shall be, and then stays."""
    stage.play(
        '[[steps]]\nat_s = 10\ndo = "ramp"\nover_s = 20\nvalues = { temperature_celsius = 91 }'
    )

    seen = await stage.at([10, 15, 20, 30, 31, 99], lambda: stage.state.gpu(7).temperature_celsius)
    assert seen == [31, 46, 61, 91, 91, 91]


async def test_set_ends_a_ramp(stage):
    """The later step about a field counts."""
    stage.play(
        '[[steps]]\nat_s = 0\ndo = "ramp"\nover_s = 20\nvalues = { temperature_celsius = 91 }\n'
        '[[steps]]\nat_s = 10\ndo = "set"\nvalues = { temperature_celsius = 40 }'
    )

    seen = await stage.at([9.9, 10.1, 30], lambda: stage.state.gpu(0).temperature_celsius)
    assert seen == [61, 40, 40]


async def test_noise(stage):
    """Noise stays within its amplitude round the value that a ramp moves, and can be ended."""
    stage.play(
        '[[steps]]\nat_s = 0\ndo = "noise"\ngpus = [0]\nvalues = { temperature_celsius = 3 }\n'
        '[[steps]]\nat_s = 20\ndo = "set"\nvalues = { temperature_celsius = 60 }\n'
        '[[steps]]\nat_s = 40\ndo = "noise"\ngpus = [0]\nvalues = { temperature_celsius = 0 }'
    )

    tenths = [tenth / 10 for tenth in range(500)]
    seen = await stage.at(tenths, lambda: stage.state.gpu(0).temperature_celsius)
    assert {28, 31, 34} <= set(seen[:200]) <= set(range(28, 35))
    assert {57, 60, 63} <= set(seen[201:400]) <= set(range(57, 64))
    assert set(seen[402:]) == {60}


async def test_counters_are_integrals(stage):
    """Energy is power over time; time under a reason is counted while its bit is set."""
    stage.play(
        '[[steps]]\nat_s = 0\ndo = "set"\ngpus = [0]\n'
        "values = { power_draw_milliwatts = 500_000, clocks_event_reasons = 0x44 }\n"
        '[[steps]]\nat_s = 10\ndo = "set"\ngpus = [0]\n'
        "values = { power_draw_milliwatts = 0, clocks_event_reasons = 0x1 }"
    )

    await stage.until(60)
    gpu = stage.state.gpu(0)
    assert gpu.energy_millijoules == pytest.approx(5_000_000, rel=0.02)
    assert gpu.hw_thermal_slowdown_nanoseconds == pytest.approx(10e9, rel=0.02)
    assert gpu.sw_power_cap_nanoseconds == gpu.hw_thermal_slowdown_nanoseconds
    assert gpu.hw_power_brake_nanoseconds == gpu.sw_thermal_slowdown_nanoseconds == 0


async def test_process(stage):
    """A process starts, takes, gives back, and is signalled; its memory is on its GPUs."""
    stage.play(
        '[[steps]]\nat_s = 1\ndo = "start"\nprocess = "engine"\ngpus = [0, 1]\n'
        'memory_bytes = 1000\nsm_percent = 50\nkind = "mps"\ncommand = ["serve", "-x"]\n'
        '[[steps]]\nat_s = 2\ndo = "take"\nprocess = "engine"\ngpus = [1]\nmemory_bytes = 500\n'
        '[[steps]]\nat_s = 3\ndo = "take"\nprocess = "engine"\nmemory_bytes = -1200\n'
        '[[steps]]\nat_s = 4\ndo = "stop"\nprocess = "engine"\nsignal = "INT"\n'
    )

    seen = await stage.at(
        [0.9, 1.1, 2.1, 3.1, 4.1], lambda: [stage.state.used_bytes(index) for index in range(3)]
    )
    assert seen == [[0, 0, 0], [1000, 1000, 0], [1000, 1500, 0], [0, 300, 0], [0, 300, 0]]
    assert stage.children.asked == [
        ("start", "engine", "serve", "-x"),
        ("send", "engine", signal.SIGINT),
    ]
    row = stage.state.gpu(1).processes[0]
    assert (row.pid, row.kind, row.sm_percent) == (stage.children.pid("engine"), 2, 50)


async def test_process_that_cannot_be(stage, capsys):
    """A program that is not there, or memory that is not, is said; the rest goes on."""
    stage.play(
        '[[steps]]\nat_s = 0\ndo = "start"\nprocess = "gone"\ncommand = ["missing"]\n'
        '[[steps]]\nat_s = 1\ndo = "take"\nprocess = "gone"\nmemory_bytes = 1\n'
        '[[steps]]\nat_s = 1\ndo = "start"\nprocess = "huge"\nmemory_bytes = 90_000_000_000\n'
        '[[steps]]\nat_s = 2\ndo = "set"\nvalues = { temperature_celsius = 33 }\n'
    )

    await stage.until(3)
    assert stage.state.gpu(0).temperature_celsius == 33
    assert stage.state.used_bytes(0) == 0
    said = capsys.readouterr().out
    assert "scenario.process_not_started" in said
    assert "scenario.memory_refused" in said


async def test_xid(stage):
    """An XID is a line of the kernel log, with the GPU's address and pid, and an NVML event."""
    stage.play(
        '[[steps]]\nat_s = 1\ndo = "start"\nprocess = "engine"\n'
        '[[steps]]\nat_s = 2\ndo = "xid"\ngpus = [1]\ncode = 79\n'
        '[[steps]]\nat_s = 3\ndo = "xid"\ngpus = [7]\ncode = 31\nprocess = "engine"\n'
        'message = "MMU Fault"\n'
    )

    await stage.until(4)
    pid = stage.children.pid("engine")
    assert stage.kernel_log() == (
        "3,0,1002000000,-;NVRM: Xid (PCI:0000:43:00): 79, pid='<unknown>', name=<unknown>, "
        "GPU has fallen off the bus.\n"
        f"3,1,1003000000,-;NVRM: Xid (PCI:0000:df:00): 31, pid={pid}, name=engine, MMU Fault\n"
    )
    events = stage.state.row.events[: stage.state.row.event_count]
    assert [(event.gpu_index, event.kind, event.data) for event in events] == [
        (1, 8, 79),
        (7, 8, 31),
    ]


async def test_hang_and_delay(stage):
    """A stall begins and ends by itself; without GPUs it is the node's."""
    stage.play(
        '[[steps]]\nat_s = 1\ndo = "hang"\ngpus = [2]\ncalls = ["memory", "process"]\nfor_s = 2\n'
        '[[steps]]\nat_s = 2\ndo = "hang"\ncalls = ["system"]\n'
        '[[steps]]\nat_s = 2\ndo = "delay"\ngpus = [3]\ndelay_s = 0.25\nfor_s = 1\n'
        '[[steps]]\nat_s = 5\ndo = "hang"\ncalls = []\n'
    )

    seen = await stage.at(
        [0, 1.1, 2.1, 3.1, 5.1],
        lambda: (
            stage.state.gpu(2).hang_groups,
            stage.state.row.hang_groups,
            stage.state.gpu(3).delay_groups,
            stage.state.gpu(3).delay_microseconds,
        ),
    )
    assert seen == [
        (0, 0, 0, 0),
        (0x204, 0, 0, 0),
        (0x204, 1, 0x3FFF, 250_000),
        (0, 1, 0, 250_000),
        (0, 0, 0, 250_000),
    ]


async def test_driver_reload(stage):
    """The driver's files go and come with it; volatile counters start anew."""
    stage.state.gpu(0).ecc_volatile_uncorrected_dram = 4
    stage.state.gpu(0).ecc_aggregate_uncorrected_dram = 4
    stage.play(
        '[[steps]]\nat_s = 1\ndo = "unload"\n'
        '[[steps]]\nat_s = 2\ndo = "load"\nversion = "590.48.01"\n'
    )
    version = stage.root / "sys/module/nvidia/version"

    seen = await stage.at(
        [0.5, 1.5, 2.5],
        lambda: (stage.state.row.driver_loaded, version.exists() and version.read_text().strip()),
    )
    assert seen == [(1, "580.95.05"), (0, False), (1, "590.48.01")]
    assert stage.state.gpu(0).ecc_volatile_uncorrected_dram == 0
    assert stage.state.gpu(0).ecc_aggregate_uncorrected_dram == 4
    assert stage.state.row.library_version == b"590.48.01"


async def test_every_kind_of_step(stage, fixtures):
    """The whole fixture plays through, twice alike."""
    path = fixtures / "scenarios" / "everything.toml"
    story, _ = scenario.load(str(path), path)
    stage.play(story)

    await stage.until(20)
    assert stage.state.gpu(1).lost == 1
    assert stage.state.gpu(1).temperature_celsius == 90
    assert stage.state.row.driver_version == b"590.48.01"
    assert stage.children.asked[-1] == ("send", "engine", signal.SIGKILL)


async def test_late_turn(stage):
    """After a pause everything that was due happens, in order, with the times it was due at."""
    stage.play(
        '[[steps]]\nat_s = 7\ndo = "set"\nvalues = { temperature_celsius = 3 }\n'
        '[[steps]]\nat_s = 5\ndo = "set"\nvalues = { temperature_celsius = 2 }\n'
        '[[steps]]\nat_s = 6\ndo = "ramp"\nover_s = 8\ngpus = [0]\nvalues = { lost = 8 }\n'
    )
    stage.player.begin()
    stage.clock._mono_s += 10
    stage.player._play_until(10.0)

    assert stage.state.gpu(0).temperature_celsius == 3
    assert stage.state.gpu(0).lost == 4
