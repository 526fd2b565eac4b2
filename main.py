"""The ASGI application (`main:app`) and the program that serves it.

python main.py             settings from the environment and .env, real keys and databases
python main.py --sandbox   everything in one command, offline: see sandbox_mode.py
"""

import argparse
import sys
from typing import TYPE_CHECKING

from app.errors import ConfigurationError, StartupError
from app.server import serve
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
        if options.sandbox:
            # Not shipped in the production image, and not needed there.
            from sandbox_mode import serve_sandbox

            return serve_sandbox()
        return serve(load_settings())
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
else:
    from app.application import create_app

    app = create_app(load_settings())
