"""A simulated node of eight H100 in a folder, and the agent's and coordinator's files for it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpuward.simulator import libraries, profile
from gpuward.simulator.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROFILE = "h100-sxm-x8"
SERVICE = "chat"


@contextmanager
def simulated(folder: Path) -> Iterator[tuple[State, dict[str, str]]]:
    """Yield the driver's state, and the environment in which a process sees that driver."""
    machine = profile.load(PROFILE)
    state = State.create(folder / "driver", len(machine.gpus))
    machine.write_to(state)
    (folder / "kmsg").touch()
    (folder / "tap").mkdir(exist_ok=True)
    try:
        yield state, libraries.environment(state.path, folder)
    finally:
        # Calls that hang return now.
        state.row.closed = 1
        state.close()


def agent_config(folder: Path, *, coordinator: str = "", engines: Sequence[int] = ()) -> Path:
    """Write the configuration of an agent on free ports; ``engines`` are ports of loopback."""
    path = folder / "agent.toml"
    text = (
        f'[node]\nname = "node-1"\n[state]\ndirectory = "{folder}/agent"\n'
        '[http]\naddress = "127.0.0.1:0"\n[grpc]\naddress = "127.0.0.1:0"\n'
        f'[tap]\ndirectory = "{folder}/tap"\n[kmsg]\npath = "{folder}/kmsg"\n'
        f'[coordinator]\naddress = "{coordinator}"\n'
    )
    for port in engines:
        text += f'[[engines]]\nservice = "{SERVICE}"\nurl = "http://127.0.0.1:{port}"\n'
    path.write_text(text)
    return path


def coordinator_config(folder: Path) -> Path:
    """Write the configuration of a coordinator on free ports that pages to ``pages.jsonl``."""
    path = folder / "coordinator.toml"
    path.write_text(
        'people = [{ name = "ada", channels = ["pager"] }]\n'
        f'notifiers = [{{ type = "file", name = "pager", path = "{folder}/pages.jsonl" }}]\n'
        f'[state]\ndirectory = "{folder}/coordinator"\n'
        '[grpc]\naddress = "127.0.0.1:0"\n[http]\naddress = "127.0.0.1:0"\n'
        '[rotations]\ninfrastructure = { primary = "ada" }\n'
        'ml = { primary = "ada" }\ndata = { primary = "ada" }\n'
    )
    return path
