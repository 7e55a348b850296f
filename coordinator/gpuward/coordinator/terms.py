"""What a cause belongs to, and what may be done about it: words with one meaning each.

They are written to the store, so they are kept for ever.
"""

from __future__ import annotations

from enum import StrEnum


class CauseDomain(StrEnum):
    """What a cause belongs to; it picks the rotation."""

    GPU = "gpu"
    DRIVER = "driver"
    CAPACITY = "capacity"
    NETWORK = "network"
    MODEL = "model"
    DRIFT = "drift"
    RETRIEVAL = "retrieval"
    FRESHNESS = "freshness"
    PIPELINE = "pipeline"
    SOURCE = "source"


class Action(StrEnum):
    """The least harmful thing that would help."""

    NONE = "none"
    CHECK_APPLICATION = "check_application"
    RESTART_APPLICATION = "restart_application"
    SCALE_UP = "scale_up"
    RESET_GPU = "reset_gpu"
    REBOOT_NODE = "reboot_node"
    DRAIN_NODE = "drain_node"
    REPLACE_HARDWARE = "replace_hardware"
    INSTALL_DRIVER = "install_driver"
