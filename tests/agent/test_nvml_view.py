"""What is kept of the NVML child's messages is what they say now."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpuward.agent import nvml_protocol as protocol
from gpuward.agent.model import Process
from gpuward.agent.nvml_view import View

GPUS = range(2)
# Three lists that a GPU may have, of two processes.
LISTS = ((), (11,), (11, 12))


def holder(pid):
    return protocol.Holder(Process(f"p{pid}", pid, 1), 5)


def hear(view, message):
    """Take a message in; its samples are nobody's concern here."""
    for _ in view.take(message):
        pass


def found(index, name):
    return protocol.Found(index, f"GPU-{name}", "H100", "1B")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["found", "holders", "trouble", "wait"]),
            st.sampled_from(GPUS),
            st.integers(0, 2),
        ),
        max_size=25,
    )
)
def test_processes_are_those_of_the_last_lists(steps):
    """Whatever is heard between two looks: new lists, a lost GPU, another card, or nothing."""
    view, names, lists, now_s = View(), {}, {}, 1_000.0
    for what, index, number in steps:
        now_s += 1.0
        if what == "found":
            hear(view, found(index, number))
            names[index] = f"GPU-{number}"
        elif what == "holders":
            processes = tuple(map(holder, LISTS[number]))
            hear(view, protocol.Holders(index, now_s, processes))
            lists[index] = (now_s, LISTS[number])
        elif what == "trouble":
            hear(view, protocol.Trouble(index, 15, "lost"))
            lists.pop(index, None)
        else:
            now_s += 20.0
        gpus = {}
        for at, (at_s, pids) in sorted(lists.items()):
            for pid in pids if now_s - at_s <= 30.0 and at in names else ():
                gpus.setdefault(pid, []).append(names[at])

        assert {pid: tuple(uuids) for pid, uuids in gpus.items()} == {
            process.pid: process.gpus for process in view.processes(now_s)
        }
