"""Ask a coordinator's JSON API for a command: what is wrong comes out as one line."""

from __future__ import annotations

import json
from typing import Any

import click
import httpx2

from gpuward.coordinator.review.wording import plain

DEFAULT_URL = "http://127.0.0.1:9480"
TIMEOUT_S = 10.0

url_option = click.option(
    "--url",
    default=DEFAULT_URL,
    envvar="GPUWARD_COORDINATOR_URL",
    show_default=True,
    show_envvar=True,
    help="Where the coordinator's web server is.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")


def ask(url: str, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON that the coordinator answers; raises ``ClickException``."""
    try:
        with httpx2.Client(base_url=url, timeout=TIMEOUT_S) as client:
            response = client.request(method, path, json=body)
        answer: dict[str, Any] = response.json()
    except httpx2.InvalidURL as error:
        raise click.ClickException(f"--url {url}: {error}") from error
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise click.ClickException(f"the coordinator at {url} does not answer: {reason}") from error
    except ValueError as error:
        raise click.ClickException(f"{url} is not a coordinator: its answer is not JSON") from error
    if response.is_error:
        raise click.ClickException(plain(str(answer.get("error", response.reason_phrase))))
    return answer


def print_json(value: dict[str, Any]) -> None:
    """Print an answer as it came, for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
