"""The ASGI application (`main:app`) and the program that serves it.

python main.py             settings from the environment and .env, real keys and databases
python main.py --sandbox   everything in one command, offline: see sandbox_mode.py
"""

import argparse
import sys
from typing import TYPE_CHECKING

from app.errors import ConfigurationError, StartupError
from app.server import application_of, serve
from app.settings import load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    app: FastAPI


def main(arguments: list[str]) -> int:
    """Serves until it is told to stop; 0 then, 1 with one clear line each when it cannot start."""
    parser = argparse.ArgumentParser(prog="main.py", description="The payment service.")
    parser.add_argument(
        "--sandbox",
        action="store_true",
        help="serve with our own Stripe sandbox, an embedded database and demo users",
    )
    options = parser.parse_args(arguments)
    try:
        return _serve_sandbox() if options.sandbox else serve(load_settings())
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        # Before it served; afterwards it stops in good order.
        return 130
    return 1


def _serve_sandbox() -> int:
    try:
        from sandbox_mode import serve_sandbox
    except ModuleNotFoundError as error:
        # The image ships the service only.
        raise StartupError(
            f"--sandbox needs the source tree and requirements-dev.lock ({error.name} is missing)"
        ) from None
    return serve_sandbox()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
else:
    app = application_of(load_settings())
