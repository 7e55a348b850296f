"""Ask the agent that runs on this node: where it listens, and what its refusals mean.

A running agent writes its addresses into its state folder, which only root may read; anybody else
goes by the configuration.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import msgspec

from gpuward.agent.model import ComponentHealth, Result
from gpuward.v1 import agent_pb2, agent_pb2_grpc, finding_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.agent.config import AgentConfig

ADDRESSES_FILE = "addresses.json"
ANSWERED_WITHIN_S = 5.0
# A node of many processes has many series.
MAX_MESSAGE_BYTES = 64 << 20
# The agent's own words say what is wrong.
TOLD = (
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
)
OPTIONS = (("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),)


class NoAnswerError(Exception):
    """The agent did not answer; the message is one line that says what to mend."""


def address_of(config: AgentConfig) -> str:
    """Return where the agent of ``config`` answers queries."""
    try:
        data = Path(config.state.directory, ADDRESSES_FILE).read_bytes()
        return msgspec.json.decode(data, type=dict[str, str])["grpc"]
    except (OSError, msgspec.MsgspecError, KeyError):
        return config.grpc.address


class Agent:
    """A connection to an agent; each question raises ``NoAnswerError``."""

    def __init__(self, channel: grpc.Channel, address: str) -> None:
        self.address = address
        self.stub = agent_pb2_grpc.AgentServiceStub(channel)

    def snapshot(self) -> agent_pb2.Snapshot:
        """Return what the agent knows now."""
        answer = self.ask(self.stub.GetSnapshot, agent_pb2.GetSnapshotRequest())
        snapshot: agent_pb2.Snapshot = answer.snapshot
        return snapshot

    def components(self) -> tuple[ComponentHealth, ...]:
        """Return how its parts are."""
        return tuple(
            ComponentHealth(part.component, _result(part.result), part.reason)
            for part in self.snapshot().components
        )

    def ask(self, method: Any, request: Any) -> Any:
        """Return the answer of ``method`` to ``request``."""
        try:
            return method(request, timeout=ANSWERED_WITHIN_S)
        except grpc.RpcError as error:
            raise NoAnswerError(f"{self.address}: {complaint(error)}") from error


def _result(value: finding_pb2.CheckResult.ValueType) -> Result:
    return Result(finding_pb2.CheckResult.Name(value).removeprefix("CHECK_RESULT_").lower())


@contextmanager
def connected(address: str) -> Iterator[Agent]:
    """Connect for the length of a block; that nobody is there shows with the first question."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        yield Agent(channel, address)


def complaint(error: Any) -> str:
    """Return what to make of a call that failed."""
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        return "no agent answers there: is it running, and is that its [grpc] address?"
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "the agent there is older than this command"
    if code in TOLD:
        return str(error.details())
    return f"the agent could not answer: {code.name.lower()}"
