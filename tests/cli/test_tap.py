"""`gpuward tap`: a folder that brings the tap into a process, and a command that has it."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuward.cli.main import main

# Without site-packages, where an editable installation would come before all else.
PYTHON = (sys.executable, "-S")
WHERE = """
import importlib.metadata, importlib.util, sys
found = importlib.metadata.distribution("gpuward-tap")
print(importlib.util.find_spec("gpuward.tap").origin)
print(found.locate_file(""))
print(sorted(e.group for e in found.entry_points), sys.argv[1:])
"""


def groups():
    return sorted(point.group for point in metadata.distribution("gpuward-tap").entry_points)


def gpuward(*arguments, env):
    code = "from gpuward.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def env(tmp_path):
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


def test_a_command_has_the_tap_of_a_copy_and_nothing_else_new(env, tmp_path):
    status, out, _ = gpuward("tap", "run", "--", *PYTHON, "-c", WHERE, "-x", "y", env=env)

    folder = tmp_path / ".cache" / "gpuward" / "tap-0.1.0"
    assert (status, out.splitlines()) == (
        0,
        [
            str(folder / "gpuward" / "tap" / "__init__.py"),
            str(folder),
            f"{groups()} ['-x', 'y']",
        ],
    )


def test_a_search_path_of_the_user_stays(env):
    show = "import os; print(os.environ['PYTHONPATH'])"
    run = ("tap", "run", "--", sys.executable, "-c", show)
    _, out, _ = gpuward(*run, env={**env, "PYTHONPATH": "/mine"})

    assert out.endswith("/tap-0.1.0:/mine\n")


def test_the_command_s_status_is_the_status(env):
    assert 7 == gpuward("tap", "run", "--", "sh", "-c", "exit 7", env=env)[0]


def test_a_command_that_is_not_there(env):
    status, _, complaint = gpuward("tap", "run", "--", "not-there", env=env)

    assert (1, "Error: cannot run not-there: No such file or directory\n") == (status, complaint)


def test_an_installed_folder_is_found_first(tmp_path):
    folder = tmp_path / "new" / "tap"
    result = CliRunner().invoke(main, ["tap", "install", "--dir", str(folder)])
    out = subprocess.run(
        [*PYTHON, "-c", WHERE],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout

    assert (0, f"PYTHONPATH={folder}\n") == (result.exit_code, result.output)
    assert [str(folder / "gpuward" / "tap" / "__init__.py"), str(folder)] == out.splitlines()[:2]
    assert not (folder / "gpuward" / "__init__.py").exists()


def test_the_copy_is_the_package(tmp_path):
    CliRunner().invoke(main, ["tap", "install", "--dir", str(tmp_path)])
    source = Path(__file__).parents[2] / "agent" / "tap" / "gpuward" / "tap"

    assert {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in (tmp_path / "gpuward" / "tap").iterdir()
    }


def test_another_version_is_replaced_and_what_is_not_ours_stays(tmp_path):
    old = [
        tmp_path / "gpuward_tap-0.0.9.dist-info" / "METADATA",
        tmp_path / "gpuward" / "tap" / "gone.py",
    ]
    mine = tmp_path / "mine" / "module.py"
    for path in (*old, mine):
        path.parent.mkdir(parents=True)
        path.write_text("")
    CliRunner().invoke(main, ["tap", "install", "--dir", str(tmp_path)])

    assert [False, False, True] == [path.exists() for path in (*old, mine)]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["tap", "install", "--dir", str(tmp_path / "file" / "tap")])

    assert 1 == result.exit_code
    assert f"Error: cannot write {tmp_path}/file/tap: Not a directory\n" == result.output


def test_the_tap_is_copied_and_never_imported(tmp_path):
    script = (
        "import sys; from gpuward.cli.tap import write_tap; from pathlib import Path\n"
        "write_tap(Path(sys.argv[1])); print([m for m in sys.modules if 'gpuward.tap' in m])"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]

    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout

    assert out == "[]\n"
