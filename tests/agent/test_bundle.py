"""`gpuward agent bundle`: everything about the hardware, nothing about anybody, a file or none."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from click.testing import CliRunner

from gpuward.agent import bundle_command
from gpuward.agent.__main__ import agent
from gpuward.agent.bundle_content import Collected, archive, files
from gpuward.v1 import agent_pb2, finding_pb2

SERIES = agent_pb2.SeriesKey(signal="gpu_temperature_celsius", gpu_uuid="GPU-1")
COLLECTED = {
    "node": "n1",
    "at": "2027-01-15 08:00:00 UTC",
    "snapshot": agent_pb2.Snapshot(
        node="n1", findings=[finding_pb2.Finding(kind="gpu.lost", summary="It is gone.")]
    ),
    "history": [
        agent_pb2.GetHistoryResponse(
            series=SERIES, points=[{"at": {"seconds": 1_800_000_000}, "value": 61.5}]
        )
    ],
    "logs": {"kernel.log": ["NVRM: one", "NVRM: two"]},
    "inforom": b'{"gpus": []}',
    "pci": {"0000:1b:00.0": {"vendor": "0x10de"}},
    "versions": {"gpuward": "1"},
    "missing": {"kernel-previous-boot.log": "no line of the driver"},
}


def test_what_is_in_it():
    found = files(Collected(**COLLECTED))

    assert list(found) == [
        "README.txt",
        "findings.json",
        "snapshot.json",
        "history.csv",
        "kernel.log",
        "inforom.json",
        "pci.json",
        "versions.json",
    ]
    assert json.loads(found["findings.json"])[0]["kind"] == "gpu.lost"
    assert "findings" not in json.loads(found["snapshot.json"])
    assert found["kernel.log"] == b"NVRM: one\nNVRM: two\n"
    assert found["history.csv"].decode() == (
        "signal,gpu,at,value\ngpu_temperature_celsius,GPU-1,2027-01-15T08:00:00Z,61.5\n"
    )


def test_the_readme_tells_what_is_there_and_what_is_not():
    words = files(Collected(**COLLECTED))["README.txt"].decode()

    assert "bundle of node n1, 2027-01-15 08:00:00 UTC" in words
    assert "\nhistory.csv               each signal of GPUs" in words
    assert "\nNot in it:\nkernel-previous-boot.log  no line of the driver\n" in words
    assert max(map(len, words.splitlines())) <= 100


def test_a_file_has_a_bound():
    endless = {"kernel.log": ["x" * 2**20] * 33}
    content = files(Collected(**COLLECTED | {"logs": endless}))["kernel.log"]
    assert len(content) == 2**25 + len(b"\n(cut here: too long)\n")
    assert content.endswith(b"\n(cut here: too long)\n")


def test_the_archive_is_for_its_owner():
    whole = archive({"a.txt": b"one", "b.txt": b""}, folder="f", at_s=1_800_000_000.9)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        members = tar.getmembers()
        assert [(m.name, m.mode, m.mtime) for m in members] == [
            ("f/a.txt", 0o600, 1_800_000_000),
            ("f/b.txt", 0o600, 1_800_000_000),
        ]
        assert tar.extractfile(members[0]).read() == b"one"


def test_the_file_is_whole_or_not_there(tmp_path):
    out = tmp_path / "b.tar.gz"
    out.write_bytes(b"an older one")
    bundle_command._write(out, b"new")
    assert (out.read_bytes(), out.stat().st_mode & 0o777) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [out]


@pytest.fixture
def nothing_there(tmp_path):
    """The configuration of a node without an agent, a driver or a GPU."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[state]\ndirectory = "{tmp_path}/state"\n[grpc]\naddress = "unix:{tmp_path}/a.sock"\n'
        f'[kmsg]\npath = "{tmp_path}/kmsg"\n[pci]\ndevices = "{tmp_path}/pci"\n'
        f'[tap]\ndirectory = "{tmp_path}/tap"\n'
    )
    return config


def test_a_folder_that_is_not_there_is_one_line(tmp_path, nothing_there, monkeypatch):
    monkeypatch.setattr(bundle_command, "_collect", lambda *_: Collected(**COLLECTED))
    out = str(tmp_path / "no" / "b.tar.gz")
    done = CliRunner().invoke(agent, ["bundle", "--config", str(nothing_there), "--out", out])

    assert (done.exit_code, done.output) == (
        1,
        f"gpuward agent: --out {out}: No such file or directory\n",
    )


def test_a_node_without_an_agent_still_gives_one(tmp_path, nothing_there):
    """It says what is missing, and why."""
    (tmp_path / "kmsg").write_bytes(b"4,10,17500000,-;NVRM: Xid (PCI:0000:c3:00): 79, pid=1\n")
    out = tmp_path / "b.tar.gz"
    done = CliRunner().invoke(agent, ["bundle", "--config", str(nothing_there), "--out", str(out)])

    assert done.exit_code == 0, done.output
    with tarfile.open(out) as tar:
        texts = {m.name.rpartition("/")[2]: tar.extractfile(m).read() for m in tar.getmembers()}
    readme = texts["README.txt"].decode()
    assert b"Xid (PCI:0000:c3:00): 79" in texts["kernel.log"]
    assert "history.csv               unix:" in readme
    assert "no agent answers there" in readme
    assert "pci.json" not in texts
