"""A driver call that is not for the agent's user: no value, and its name is told."""

from __future__ import annotations

import pytest

from gpuward.agent.nvml_conditions import Unavailable
from gpuward.agent.nvml_device import Slot
from gpuward.agent.nvml_protocol import Found, Present
from gpuward.agent.nvml_view import View


class PlayedError(Exception):
    """As the binding raises: ``value`` is nvmlReturn_t."""

    def __init__(self, value):
        super().__init__(f"error {value}")
        self.value = value


@pytest.mark.parametrize(
    ("code", "denied"),
    [
        pytest.param(4, {"nvmlDeviceGetSecret"}, id="NO_PERMISSION"),
        pytest.param(19, set(), id="IN_USE is not one"),
        pytest.param(999, set(), id="nor is UNKNOWN"),
    ],
)
def test_the_call_has_no_value_and_a_name(code, denied):
    slot = Slot(0, PlayedError)
    with pytest.raises(Unavailable), slot.calling("nvmlDeviceGetSecret"):
        raise PlayedError(code)

    assert slot.denied == denied


def test_names_of_all_gpus_are_one_list_and_go_with_the_child():
    """A child that starts with more rights is refused less."""
    view = View()
    for message in (
        Present("580.95.05", 2),
        Found(0, "GPU-a", "H100", "0000:10:00.0", denied=("b", "c")),
        Found(1, "GPU-b", "H100", "0000:11:00.0", denied=("a", "b")),
    ):
        assert list(view.take(message)) == []
    before = view.denied()
    view.started()

    assert (before, view.denied()) == (("a", "b", "c"), ())
