"""What the laboratory's tests share."""

from collections.abc import Iterator

import pytest

from tests.faults import catalogue
from tests.faults.crashes import Outcome
from tests.faults.laboratory import listening
from tests.support.store import OWN_STORES, SERVER_URL


def sampled(quick: int, whole: int, *, on_a_server: int) -> pytest.MarkDecorator:
    """``sample``: the part to run of the cases of one kind, which chance has put in order.

    ``make test`` runs the first ``quick``, ``make test-all`` adds the others up to ``whole``, and
    the deep set has every case there is. A server differs from the embedded store in what its
    commands do, not in where the service can be cut short: that takes fewer cases, and each costs
    several times more.
    """
    if SERVER_URL is not None:
        return pytest.mark.parametrize("sample", [slice(on_a_server)], ids=["server"])
    samples = [
        pytest.param(slice(quick), id="quick"),
        pytest.param(slice(quick, whole), id="more", marks=pytest.mark.slow),
    ]
    return pytest.mark.parametrize("sample", samples)


@pytest.fixture(autouse=True)
def unforeseen_errors_are_heard() -> Iterator[None]:
    with listening():
        yield


@pytest.fixture(autouse=True)
def own_stores() -> Iterator[None]:
    """What the worlds of a test kept on a server is removed."""
    yield
    OWN_STORES.remove()


async def report(outcomes: list[Outcome]) -> None:
    """Fails with the shortest trace of the first case that broke a promise."""
    broken = [outcome for outcome in outcomes if outcome.broken]
    if not broken:
        return
    first = await catalogue.shortest(broken[0])
    lines = [
        f"{len(broken)} of {len(outcomes)} cases broke a promise; the first:",
        first.name,
        *first.trace,
        *[f"BROKEN {each}" for each in first.broken],
        f"alone: python -m tests.faults.deep --case '{first.name}'",
    ]
    pytest.fail("\n".join(lines), pytrace=False)
