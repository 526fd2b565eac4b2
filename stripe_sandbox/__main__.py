"""``python -m stripe_sandbox``: the sandbox as a program of its own."""

import argparse
import contextlib
import gc
import logging
import os
import sys
import threading
from collections.abc import Sequence

import uvicorn

from stripe_sandbox.app import create_app
from stripe_sandbox.core.config import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    SandboxConfig,
    WebhookEndpointConfig,
)
from stripe_sandbox.sandbox import Sandbox
from stripe_sandbox.server import KEEP_ALIVE_SECONDS, ProgramServer
from stripe_sandbox.trouble.faults import FAULT_KINDS
from stripe_sandbox.trouble.syntax import TROUBLE_SYNTAX
from stripe_sandbox.trouble.webhook_faults import WEBHOOK_FAULT_KINDS


def _parser() -> argparse.ArgumentParser:
    defaults = SandboxConfig()
    parser = argparse.ArgumentParser(
        prog="python -m stripe_sandbox",
        description="A stateful, offline stand-in for Stripe. Test keys only; nothing is charged.",
    )
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument(
        "--webhook-url",
        action="append",
        default=[],
        metavar="URL",
        help="where to deliver events; repeatable, each with its own --webhook-secret",
    )
    parser.add_argument("--webhook-secret", action="append", default=[], metavar="whsec_...")
    parser.add_argument(
        "--webhook-retry-seconds",
        type=float,
        nargs="+",
        default=list(defaults.retry_schedule),
        metavar="SECONDS",
        help="waits before the 2nd, 3rd, ... try of a delivery",
    )
    parser.add_argument("--webhook-concurrency", type=int, default=1, metavar="N")
    parser.add_argument(
        "--webhooks-paused",
        action="store_true",
        help="keep events queued until the control API resumes or releases them",
    )
    parser.add_argument(
        "--public-url", metavar="URL", help="base of the hosted pages' addresses as browsers see it"
    )
    parser.add_argument(
        "--delayed-payment-seconds",
        type=float,
        default=defaults.delayed_payment_seconds,
        metavar="N",
        help="how long a bank debit stays processing",
    )
    parser.add_argument(
        "--refund-settle-seconds", type=float, default=defaults.refund_settle_seconds, metavar="N"
    )
    parser.add_argument(
        "--dispute-settle-seconds", type=float, default=defaults.dispute_settle_seconds, metavar="N"
    )
    parser.add_argument(
        "--latency",
        default="0",
        metavar="SECONDS",
        help="added to each API request: 0.5, a range as 0.2..1.5, or samples as 0.2,0.3,2",
    )
    parser.add_argument(
        "--rate-limit",
        type=int,
        metavar="N",
        help="answer 429 beyond this many API requests per second (Stripe's test mode: 25)",
    )
    parser.add_argument(
        "--trouble",
        action="append",
        default=[],
        metavar=TROUBLE_SYNTAX,
        help="repeatable; KIND is one of "
        + ", ".join([*FAULT_KINDS, *(f"webhook_{kind}" for kind in WEBHOOK_FAULT_KINDS)]),
    )
    parser.add_argument("--capacity", type=int, default=defaults.capacity, metavar="N")
    parser.add_argument(
        "--seed", type=int, help="make ids, and what happens by chance, reproducible"
    )
    parser.add_argument(
        "--stop-with-stdin",
        action="store_true",
        help="stop when standard input ends: for a program that starts the sandbox, and that may "
        "be killed before it can stop it",
    )
    parser.add_argument(
        "--log-level", default="info", choices=("debug", "info", "warning", "error")
    )
    return parser


def _configure(arguments: argparse.Namespace) -> SandboxConfig:
    if len(arguments.webhook_url) != len(arguments.webhook_secret):
        raise ValueError("each --webhook-url needs its --webhook-secret")
    pairs = zip(arguments.webhook_url, arguments.webhook_secret, strict=True)
    return SandboxConfig(
        webhook_endpoints=[WebhookEndpointConfig(url=url, secret=secret) for url, secret in pairs],
        retry_schedule=tuple(arguments.webhook_retry_seconds),
        webhook_concurrency=arguments.webhook_concurrency,
        shutdown_drain_seconds=2.0,
        public_url=arguments.public_url or f"http://localhost:{arguments.port}",
        delayed_payment_seconds=arguments.delayed_payment_seconds,
        refund_settle_seconds=arguments.refund_settle_seconds,
        dispute_settle_seconds=arguments.dispute_settle_seconds,
        latency=arguments.latency,
        rate_limit=arguments.rate_limit,
        capacity=arguments.capacity,
        seed=arguments.seed,
    )


def _stop_with_stdin(server: uvicorn.Server) -> None:
    """Standard input ends when the process at the pipe's other end is gone, however it went."""
    # Not sys.stdin.read: the interpreter cannot shut down while a thread holds that object's lock.
    while os.read(sys.stdin.fileno(), 4_096):
        continue
    server.should_exit = True


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        sandbox = Sandbox(_configure(arguments))
        for trouble in arguments.trouble:
            sandbox.add_trouble(trouble)
        if arguments.webhooks_paused:
            sandbox.webhooks.pause()
    except ValueError as error:
        parser.error(str(error))
    level = arguments.log_level.upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Objects are kept by the ten thousand and make no cycles: looking for some takes long pauses.
    gc.set_threshold(100_000, 50, 1_000)
    app = create_app(sandbox)
    server = ProgramServer(
        uvicorn.Config(
            app,
            host=arguments.host,
            port=arguments.port,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=3,
        ),
        app,
    )
    if arguments.stop_with_stdin:
        threading.Thread(target=_stop_with_stdin, args=(server,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
