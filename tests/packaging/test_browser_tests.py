"""Without a browser the browser tests are skipped, and say so; where one is required, they fail."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_one(tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """One browser test where the PATH has no browser."""
    test = "tests/browser/test_hosted_pages.py::test_cancel_goes_back_to_the_shop"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path), "BROWSER_TESTS": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_machine_without_a_browser_skips_them_with_the_reason(tmp_path: Path) -> None:
    done = run_one(tmp_path)
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    assert re.search(
        r"SKIPPED .* no chromium on the PATH; .* apt-get install chromium", done.stdout
    )


@pytest.mark.slow
def test_where_a_browser_is_required_its_absence_is_a_failure(tmp_path: Path) -> None:
    done = run_one(tmp_path, BROWSER_TESTS="required")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout


def test_ci_installs_the_browser_and_requires_it() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    packages = re.search(r"^packages=\((.*?)^\)", script, re.MULTILINE | re.DOTALL)
    assert packages is not None
    assert "chromium" in packages[1].split()
    assert script.index("export BROWSER_TESTS=required") < script.index("\nmake test-all\n")
