"""`gpuward coordinator kinds` against a coordinator's real web server on loopback."""

from __future__ import annotations

import asyncio
import json
import threading

import click.testing
import pytest
import uvicorn

from gpuward.coordinator.__main__ import coordinator


@pytest.fixture
async def run(site):
    """Run the command, in a thread, against the served site; return its result."""
    server = uvicorn.Server(uvicorn.Config(site.app, port=0, log_config=None, lifespan="off"))
    loop = asyncio.get_running_loop()

    async def run(*argv):
        done, results = asyncio.Event(), []

        def call():
            runner = click.testing.CliRunner()
            results.append(runner.invoke(coordinator, ["kinds", *argv, "--url", url]))
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=call, daemon=True).start()
        await done.wait()
        return results[0]

    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield run
        server.should_exit = True


async def test_list(run):
    """Aligned, every kind; only the changed ones where that is asked for."""
    everything = await run("list")
    none = await run("list", "--changed")

    lines = everything.output.splitlines()
    assert lines[0].split() == ["kind", "told", "agents", "changed"]
    assert ["gpu.lost", "page", "page"] in [line.split() for line in lines]
    assert "No kind was changed.\n" == none.output


async def test_promote_demote_reset(run):
    promoted = await run(
        "promote", "gpu.saturated", "--to", "page", "--by", "Bo", "--reason", "users"
    )
    listed = await run("list", "--changed")
    demoted = await run("demote", "gpu.saturated", "--by", "Bo")
    reset = await run("reset", "gpu.saturated", "--by", "Bo", "--json")

    assert "gpu.saturated: told page from now on; agents say store\n" == promoted.output
    assert "promoted by Bo, 2027-01-15 08:00:00 UTC: users" in listed.output
    assert "gpu.saturated: told store from now on; agents say store\n" == demoted.output
    assert "store" == json.loads(reset.output)["told"]


async def test_a_slip_is_told_with_the_nearest_names(run):
    result = await run("promote", "gpu.saturatd", "--by", "Bo")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "did you mean gpu.saturated" in result.stderr


async def test_no_such_class(run):
    result = await run("promote", "gpu.saturated", "--to", "mail")

    assert 2 == result.exit_code
