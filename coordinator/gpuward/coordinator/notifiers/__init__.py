"""Channels that pages go out on: one file each, one line each in the two tables here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuward.coordinator.notifiers import (
    console,
    email,
    file,
    incident_io,
    opsgenie,
    pagerduty,
    slack,
    webhook,
)
from gpuward.coordinator.notifiers.console import ConsoleConfig
from gpuward.coordinator.notifiers.email import EmailConfig
from gpuward.coordinator.notifiers.file import FileConfig
from gpuward.coordinator.notifiers.incident_io import IncidentIoConfig
from gpuward.coordinator.notifiers.opsgenie import OpsgenieConfig
from gpuward.coordinator.notifiers.pagerduty import PagerDutyConfig
from gpuward.coordinator.notifiers.slack import SlackConfig
from gpuward.coordinator.notifiers.webhook import WebhookConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpuward.coordinator.page import Notifier
    from gpuward.daemon.clock import Clock

NotifierConfig = (
    ConsoleConfig
    | EmailConfig
    | FileConfig
    | IncidentIoConfig
    | OpsgenieConfig
    | PagerDutyConfig
    | SlackConfig
    | WebhookConfig
)

CREATE: Mapping[type, Callable[[Any, Clock], Notifier]] = {
    ConsoleConfig: console.create,
    EmailConfig: email.create,
    FileConfig: file.create,
    IncidentIoConfig: incident_io.create,
    OpsgenieConfig: opsgenie.create,
    PagerDutyConfig: pagerduty.create,
    SlackConfig: slack.create,
    WebhookConfig: webhook.create,
}


def create(config: NotifierConfig, clock: Clock) -> Notifier:
    """Return the notifier that ``config`` describes; raises ``ConfigError``."""
    return CREATE[type(config)](config, clock)
