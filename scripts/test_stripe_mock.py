"""Every request to Stripe, judged by Stripe's own mock (tests/contract/test_stripe_mock.py).

Usage: test_stripe_mock.py [--if-any] [PYTEST ARGUMENT...]

Fails when the mock cannot be had; with --if-any says so and succeeds.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.real_servers import (  # noqa: E402 - after the path, as this is run as a file
    STRIPE_MOCK,
    CannotBeHad,
    DoesNotWork,
    running,
    stop_what_was_started_when_told_to_stop,
)


def main(arguments: list[str]) -> int:
    if_any = "--if-any" in arguments
    arguments = [argument for argument in arguments if argument != "--if-any"]
    try:
        with running(STRIPE_MOCK) as server:
            return subprocess.run(
                [sys.executable, "-m", "pytest", "tests/contract/test_stripe_mock.py", *arguments],
                cwd=ROOT,
                env={**os.environ, "STRIPE_MOCK_URL": f"http://127.0.0.1:{server.port}"},
                check=False,
            ).returncode
    except CannotBeHad as error:
        print(f"== stripe-mock cannot be had: {error}", flush=True)
        return 0 if if_any else 1
    except DoesNotWork as error:
        print(f"== stripe-mock does not work: {error}", flush=True)
        return 1


if __name__ == "__main__":
    stop_what_was_started_when_told_to_stop()
    sys.exit(main(sys.argv[1:]))
