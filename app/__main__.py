"""Commands for operators.

python -m app reconcile --once   one run of the reconciler, its report as JSON on standard output
python -m app reconcile          runs on the timer until stopped, for a deployment of its own
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Coroutine

from app import __version__
from app.dependencies import Services, open_services
from app.errors import ConfigurationError, PaymentServiceError, StartupError
from app.metrics import Metrics
from app.observability import configure_logging
from app.repositories.database import connect
from app.settings import Settings, load_settings


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    reconcile = commands.add_parser("reconcile", help="find half-done work and move it on")
    reconcile.add_argument("--once", action="store_true", help="one run, then the report")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        configure_logging(settings.log_level, json=True, stream=sys.stderr)
        return asyncio.run(_reconcile(settings, once=options.once))
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
    except PaymentServiceError as error:
        print(f"error: {error.detail}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


async def _reconcile(settings: Settings, *, once: bool) -> int:
    """1 when something failed and is to be tried again, 2 when another instance is at work."""
    metrics = Metrics(version=__version__, stripe_mode=settings.mode)
    async with open_services(settings, metrics, connect) as services:
        if once:
            return await _run_once(services)
        interval = settings.reconcile_interval_seconds or 60.0
        await _until_told_to_stop(services.reconciliation.run_for_ever(interval))
    return 0


async def _until_told_to_stop(work: Coroutine[None, None, None]) -> None:
    """A run that is cut short gives its lease back, and the next one goes on where it was."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _run_once(services: Services) -> int:
    report = await services.reconciliation.run_once()
    if not report.ran:
        print(json.dumps({"ran": False, "reason": "another instance is reconciling"}))
        return 2
    print(json.dumps({"ran": True, **report.as_fields()}))
    return 1 if report.failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
