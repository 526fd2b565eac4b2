"""`make` on other people's machines: old Pythons, half-made environments, two terminals."""

import importlib.util
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import make_venv

ROOT = Path(__file__).resolve().parents[2]


# The verbs -------------------------------------------------------------------------------------


def test_help_is_the_default_and_lists_every_verb() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    verbs = {verb for line in phony for verb in line.split()}
    promised = "install run test test-all check lint types format coverage lock clean help"
    assert set(promised.split()) <= verbs
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE)) == verbs


def test_ci_runs_the_checks_and_then_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", str(script)], check=True)
    steps = re.findall(r"^make (\S+)", script.read_text(), re.MULTILINE)
    last = "the last line of output is the test runner's"
    assert steps == ["check", "image-check", "test-stripe-mock", "test-mongodb", "test-all"], last


# Finding a Python ------------------------------------------------------------------------------


@pytest.fixture
def bin_directory(tmp_path: Path) -> Path:
    """A PATH of its own, with sh and what the test puts there."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


def add_python(directory: Path, name: str, version: str) -> None:
    """A stand-in that answers as that version would: `--version` and `-c 'import sys; ...'`."""
    numbers = tuple(map(int, version.split(".")))
    (directory / name).write_text(
        f"#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "Python {version}" && exit\n'
        f'code=$(echo "$2" | sed "s/sys.version_info/{numbers}/g")\n'
        f'exec {sys.executable} -c "$code"\n'
    )
    (directory / name).chmod(0o755)


def find_python(directory: Path, chosen: str = "") -> subprocess.CompletedProcess[str]:
    for tool in ("sh", "sed"):
        for place in ("/bin", "/usr/bin"):
            if (Path(place) / tool).exists() and not (directory / tool).exists():
                (directory / tool).symlink_to(Path(place) / tool)
    return subprocess.run(
        ["sh", ROOT / "scripts" / "find_python.sh"],
        env={"PATH": str(directory), "PYTHON": chosen},
        capture_output=True,
        text=True,
        check=False,
    )


def test_python3_is_taken_when_it_fits(bin_directory: Path) -> None:
    add_python(bin_directory, "python3", "3.12.4")
    add_python(bin_directory, "python3.13", "3.13.0")
    assert find_python(bin_directory).stdout == "python3\n"


def test_a_newer_named_python_is_taken_when_python3_is_old(bin_directory: Path) -> None:
    add_python(bin_directory, "python3", "3.9.2")
    add_python(bin_directory, "python3.11", "3.11.0")
    assert find_python(bin_directory).stdout == "python3.11\n"


def test_a_stand_in_with_no_python_behind_it_is_passed_over(bin_directory: Path) -> None:
    """A version manager leaves such commands on the PATH."""
    (bin_directory / "python3").write_text("#!/bin/sh\necho not found >&2\nexit 127\n")
    (bin_directory / "python3").chmod(0o755)
    add_python(bin_directory, "python3.12", "3.12.1")
    assert find_python(bin_directory).stdout == "python3.12\n"


def test_a_python_newer_than_the_locked_wheels_comes_second(bin_directory: Path) -> None:
    add_python(bin_directory, "python3", "3.15.0")
    assert find_python(bin_directory).stdout == "python3\n"
    add_python(bin_directory, "python3.13", "3.13.0")
    assert find_python(bin_directory).stdout == "python3.13\n"


def test_only_an_old_python_is_said_plainly(bin_directory: Path) -> None:
    add_python(bin_directory, "python3", "3.9.2")
    answer = find_python(bin_directory)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "Python 3.11 or newer is needed" in answer.stderr
    assert "python3 is Python 3.9.2" in answer.stderr
    assert "PYTHON=" in answer.stderr


def test_no_python_at_all_is_said_plainly(bin_directory: Path) -> None:
    answer = find_python(bin_directory)
    assert answer.returncode == 1
    assert "Python 3.11 or newer is needed" in answer.stderr
    assert "Too old" not in answer.stderr


def test_the_python_that_was_asked_for_is_the_only_candidate(bin_directory: Path) -> None:
    add_python(bin_directory, "python3", "3.12.4")
    add_python(bin_directory, "mine", "3.13.1")
    add_python(bin_directory, "old", "3.8.0")
    assert find_python(bin_directory, "mine").stdout == "mine\n"
    assert find_python(bin_directory, "old").returncode == 1


# Making the environment ------------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "requirements.lock"
    path.write_text("# nothing to install, so that no package index is needed\n")
    return path


def start(tmp_path: Path, lock: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "make_venv.py", tmp_path / "venv", lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PIP_NO_INDEX": "1"},
    )


def make(tmp_path: Path, lock: Path) -> tuple[int, str]:
    process = start(tmp_path, lock)
    output, _ = process.communicate(timeout=100)
    return process.returncode, output


@pytest.mark.slow
def test_an_install_that_failed_is_not_taken_for_done(tmp_path: Path, lock: Path) -> None:
    stamp = tmp_path / "venv" / ".installed"
    code, output = make(tmp_path, lock)
    assert code == 0, output
    assert stamp.exists()

    again, output = make(tmp_path, lock)
    assert (again, output) == (0, ""), "a second run has nothing to do"

    good = lock.read_text()
    lock.write_text("no-such-package==1.0\n")  # without a hash: refused before anything is fetched
    code, output = make(tmp_path, lock)
    assert code != 0
    assert "Could not make" in output
    assert not stamp.exists()

    (tmp_path / "venv" / "left-over").touch()
    lock.write_text(good)
    code, output = make(tmp_path, lock)
    assert code == 0, output
    assert stamp.exists()
    assert not (tmp_path / "venv" / "left-over").exists(), "a half-made environment is made anew"


@pytest.mark.slow
def test_two_at_once_take_turns(tmp_path: Path, lock: Path) -> None:
    both = [start(tmp_path, lock), start(tmp_path, lock)]
    outputs = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("Installing" in output for output in outputs) == 1


def test_a_python_without_venv_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit, match="apt install python3-venv"):
        make_venv.creation_command(tmp_path)


def test_virtualenv_stands_in_for_a_missing_venv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = {"virtualenv"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in present or None)
    assert make_venv.creation_command(tmp_path)[1:3] == ["-m", "virtualenv"]
