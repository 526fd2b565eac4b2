"""The deep set's program: a case by its name, a run by its seed."""

import io
import logging
import re

import pytest

from tests.faults import catalogue, deep
from tests.faults.mutations import MUTATIONS
from tests.support.store import only_embedded

pytestmark = [
    pytest.mark.timeout(600),
    only_embedded(
        "races are among its cases, and their schedules count on commands that never wait"
    ),
]

CASE = "crash:pay_with_credits:4=die_after:-:retry:redeliver"


def test_one_case_is_run_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert deep.main(["--case", CASE]) == 0
    printed = capsys.readouterr().out
    assert "find_one_and_update auth.users   <== die_after" in printed
    assert f"--case '{CASE}'" in printed


def test_failing_case_shows_its_trace_and_fails_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with MUTATIONS["debit_leaves_no_mark"].applied():
        assert deep.main(["--case", CASE]) == 1
    assert "BROKEN [2] ada has 4 credits, not 7" in capsys.readouterr().out


def test_run_goes_on_where_another_was_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    assert deep.main(["--seed", "3", "--from", "2", "--cases", "6"]) == 0
    assert re.search(r"^4 cases \(.+\) in \d+ s$", capsys.readouterr().out, re.MULTILINE)


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, shown in (
        (Terminal(), r"\r\[#{15}-{15}\] deep: 2 of 4"),
        (io.StringIO(), r"^deep: 2 of 4"),
    ):
        deep.Progress("deep", 4, out).show(2, 0, last=True)
        assert re.search(shown, out.getvalue())


async def test_case_by_chance_depends_on_seed_and_number_only() -> None:
    first, second = catalogue.ByChance(), catalogue.ByChance()
    await first.measure()
    await second.measure()
    names = [first.name(5, number) for number in range(20)]
    assert names == [second.name(5, number) for number in range(20)]
    assert len({name.partition(":")[0] for name in names}) == 4


def test_log_is_heard_again_after_a_run(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert deep.main(["--case", CASE]) == 0
    logging.getLogger("app").warning("heard")
    assert "heard" in caplog.text
