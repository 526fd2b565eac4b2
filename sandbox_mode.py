"""`python main.py --sandbox`: the whole service on one machine, offline, with nothing to set up.

The service is the same code with the same settings class. What differs is where its settings point:
at our Stripe sandbox, a program of its own that is started beside it, and at the embedded store.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from bson import ObjectId
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError, StartupError
from app.observability import configure_logging
from app.repositories.database import Databases, connect
from app.routers import BASE_PATH
from app.server import serve
from app.settings import Environment, Settings, load_settings

LOOPBACK: Final = "127.0.0.1"
DEMO_PATH: Final = "/demo"
DEMO_SHOP: Final = Path(__file__).with_name("demo_shop")
SANDBOX_START_SECONDS: Final = 15.0
SANDBOX_STOP_SECONDS: Final = 5.0

DEMO_USERS: Final = (
    {"_id": "user_123", "credits": 10},
    {"_id": "user_456", "credits": 0},
    {"_id": ObjectId("64b7f8c2e4b0a1d2c3e4f506"), "credits": 25},
)


class SandboxPorts(BaseSettings):
    """Read from the environment only: sandbox mode looks at no ``.env``."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True)

    host: str = LOOPBACK
    """Nobody needs a credential here, so only this machine is served unless HOST says otherwise."""
    port: int = Field(default=8004, ge=1, le=65535)
    stripe_sandbox_port: int = Field(default=8005, ge=1, le=65535)


def serve_sandbox() -> int:
    """Serves until stopped. Raises ConfigurationError or StartupError."""
    _refuse_live_keys()
    ports = _read_ports()
    webhook_secret = f"whsec_{secrets.token_hex(16)}"
    settings = load_settings(
        _env_file=None,
        environment=Environment.DEVELOPMENT,
        host=ports.host,
        port=ports.port,
        mongodb_url=SecretStr("mongomock://"),
        auth_mongodb_url=SecretStr("mongomock://"),
        stripe_secret_key=SecretStr("sk_test_sandbox"),
        stripe_publishable_key="pk_test_sandbox",
        stripe_webhook_secret=SecretStr(webhook_secret),
        stripe_api_base=f"http://{LOOPBACK}:{ports.stripe_sandbox_port}",
        payment_success_url=f"http://localhost:{ports.port}{DEMO_PATH}/order.html"
        "?session_id={CHECKOUT_SESSION_ID}",
        payment_cancel_url=f"http://localhost:{ports.port}{DEMO_PATH}/?canceled=1",
    )

    def extend(app: FastAPI) -> None:
        _add_demo_shop(app, ports)
        # The link to the demo shop is to come first, not what is logged while it starts.
        configure_logging("warning", json=False)

    def welcome() -> None:
        print(_welcome(ports), flush=True)
        configure_logging(settings.log_level, json=False)

    with _unwinding_when_told_to_stop(), _stripe_sandbox(ports, webhook_secret):
        return serve(settings, connect=_connect_with_demo_users, extend=extend, on_started=welcome)


def _refuse_live_keys() -> None:
    problems = [
        f"{name} holds a live key; sandbox mode refuses to run beside one"
        for name in ("STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY")
        if "_live_" in os.environ.get(name, "")
    ]
    environment = os.environ.get("ENVIRONMENT", Environment.DEVELOPMENT)
    if environment.lower() == Environment.PRODUCTION:
        problems.append("ENVIRONMENT is production; sandbox mode is for development")
    if problems:
        raise ConfigurationError(problems)


def _read_ports() -> SandboxPorts:
    try:
        ports = SandboxPorts()
    except ValidationError as error:
        raise ConfigurationError(
            [f"{str(each['loc'][0]).upper()} {each['msg']}" for each in error.errors()]
        ) from None
    if ports.port == ports.stripe_sandbox_port:
        raise ConfigurationError(["PORT and STRIPE_SANDBOX_PORT must be two different ports"])
    return ports


@contextlib.contextmanager
def _unwinding_when_told_to_stop() -> Iterator[None]:
    """A signal that would end this process at once leaves the sandbox behind, and its port taken.

    While the service serves, uvicorn handles SIGTERM itself.
    """

    def unwind(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signals = [signal.SIGTERM]
    if sys.platform != "win32":
        signals.append(signal.SIGHUP)
    previous = {each: signal.signal(each, unwind) for each in signals}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def _stripe_sandbox(ports: SandboxPorts, webhook_secret: str) -> Iterator[None]:
    """Runs ``python -m stripe_sandbox`` as a program of its own, as any other project would."""
    address = (LOOPBACK, ports.stripe_sandbox_port)
    if _answers(address):
        raise StartupError(
            f"port {ports.stripe_sandbox_port} is taken; set STRIPE_SANDBOX_PORT to a free one"
        )
    webhook_url = f"http://{LOOPBACK}:{ports.port}{BASE_PATH}/webhook/stripe"
    command = [sys.executable, "-m", "stripe_sandbox", "--log-level", "warning"]
    command += ["--port", str(ports.stripe_sandbox_port)]
    command += ["--public-url", f"http://localhost:{ports.stripe_sandbox_port}"]
    command += ["--webhook-url", webhook_url, "--webhook-secret", webhook_secret]
    command += ["--stop-with-stdin"]
    with subprocess.Popen(  # noqa: S603 - our own program, no shell
        command,
        cwd=Path(__file__).parent,
        # Nothing is ever written: the pipe breaks when this process ends, even if it is killed.
        stdin=subprocess.PIPE,
        # Ctrl+C is for us: the sandbox must answer until the last request is finished.
        process_group=0 if sys.platform != "win32" else None,
    ) as process:
        try:
            deadline = time.monotonic() + SANDBOX_START_SECONDS
            while not _answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StartupError("the Stripe sandbox did not start; its own message is above")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            try:
                process.wait(SANDBOX_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0


@contextlib.asynccontextmanager
async def _connect_with_demo_users(settings: Settings) -> AsyncIterator[Databases]:
    async with connect(settings) as databases:
        users = databases.auth[settings.auth_users_collection]
        await users.insert_many([dict(user) for user in DEMO_USERS])
        yield databases


def _add_demo_shop(app: FastAPI, ports: SandboxPorts) -> None:
    """A frontend like any other, served here so that one command is enough."""
    stated = f"http://localhost:{SandboxPorts.model_fields['stripe_sandbox_port'].default}/"
    script = (DEMO_SHOP / "config.js").read_text(encoding="utf-8")
    script = script.replace(stated, f"http://localhost:{ports.stripe_sandbox_port}/")

    async def config(_: Request) -> Response:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    async def shop(_: Request) -> Response:
        return RedirectResponse(f"{DEMO_PATH}/")

    app.add_route(DEMO_PATH, shop, include_in_schema=False)
    app.add_route(f"{DEMO_PATH}/config.js", config, include_in_schema=False)
    app.mount(DEMO_PATH, StaticFiles(directory=DEMO_SHOP, html=True))


def _welcome(ports: SandboxPorts) -> str:
    api = f"localhost:{ports.port}{BASE_PATH}"
    json_header = "-H 'Content-Type: application/json'"
    cart = '"items":[{"book_id":"dune","title":"Dune","price_cents":1299,"quantity":1,"credits":2}]'
    users = ", ".join(f"{user['_id']} ({user['credits']} credits)" for user in DEMO_USERS)
    return f"""
  Demo shop         http://localhost:{ports.port}{DEMO_PATH}/
  Dashboard         http://localhost:{ports.stripe_sandbox_port}/
  Payment service   http://localhost:{ports.port}/docs
  Stripe sandbox    http://localhost:{ports.stripe_sandbox_port}/_sandbox/
  Demo users        {users}
  All data is in memory and gone when this stops. No money moves.

  Pay a PaymentIntent, as Stripe Elements would:
    curl -s {api}/create-payment-intent {json_header} -d '{{"user_id":"user_123",{cart}}}' | sed -E 's/.*"payment_intent_id":"([^"]+)".*/{{"payment_intent_id":"\\1","payment_method_id":"pm_card_visa"}}/' | curl -s {api}/confirm-payment {json_header} -d @-

  Get a hosted checkout page, then open its checkout_url and pay with 4242 4242 4242 4242:
    curl -s {api}/create-checkout-session {json_header} -d '{{"user_id":"user_123",{cart}}}'

  Pay with credits:
    curl -s {api}/pay-with-credits {json_header} -d '{{"user_id":"user_123",{cart}}}'
"""  # noqa: E501 - lines to paste
