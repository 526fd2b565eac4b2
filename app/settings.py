"""Everything that can be configured, from the environment or ``.env``; unsafe mixes are refused."""

import json
import os
import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.domain.money import maximum_charges
from app.domain.user_ids import UserIdType
from app.errors import ConfigurationError

EMBEDDED_DATABASE_SCHEME = "mongomock://"

_NOT_IN_A_URL = re.compile(r"[\s\\\x00-\x1f\x7f]")

Mode = Literal["test", "live"]
Origins = Annotated[tuple[str, ...], NoDecode]


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """Frozen; passed to ``create_app`` and never imported as a value. Durations are in seconds."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        # A secret that was put into a file with echo ends in a line break.
        str_strip_whitespace=True,
        validate_default=True,
    )

    environment: Environment = Environment.DEVELOPMENT
    deployment_name: str = ""
    host: str = "0.0.0.0"  # noqa: S104 - a container is reached from outside of it
    port: int = Field(default=8004, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    docs_enabled: bool | None = None

    mongodb_url: SecretStr = SecretStr("mongodb://localhost:27017")
    mongodb_db_name: str = Field(default="audiobooker_payment", min_length=1)
    auth_mongodb_url: SecretStr = SecretStr("mongodb://localhost:27017")
    auth_mongodb_db_name: str = Field(default="audiobooker_auth", min_length=1)
    auth_users_collection: str = Field(default="users", min_length=1)
    auth_user_id_type: UserIdType = UserIdType.AUTO
    auth_credits_field: str = Field(default="credits", min_length=1, pattern=r"^[^.$]+$")
    database_timeout_seconds: float = Field(default=5.0, gt=0, le=60)

    stripe_secret_key: SecretStr = SecretStr("")
    stripe_publishable_key: str = ""
    stripe_webhook_secret: SecretStr = SecretStr("")
    stripe_api_base: str = ""
    stripe_timeout_seconds: float = Field(default=20.0, gt=0, le=60)
    stripe_max_concurrency: int = Field(default=50, ge=1)

    payment_success_url: str = "http://localhost:5173/checkout/success"
    payment_cancel_url: str = "http://localhost:5173/checkout/cancel"
    cors_origins: Origins = ("http://localhost:5173",)
    allowed_redirect_origins: Origins = ()

    credit_value_cents: int = Field(default=100, ge=1)
    max_amount_cents: str = ""
    allow_user_refunds: bool = False

    auth_jwt_secret: SecretStr = SecretStr("")
    auth_jwt_public_key: str = Field(default="", repr=False)
    internal_service_key: SecretStr = SecretStr("")

    reconcile_interval_seconds: float = Field(default=60.0, ge=0)
    reconcile_after_seconds: float = Field(default=60.0, ge=0)
    abandon_after_seconds: float = Field(default=86_400.0, ge=300, le=86_400.0)
    webhook_event_retention_days: int = Field(default=30, ge=1)
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    shutdown_timeout_seconds: int = Field(default=30, ge=0)

    @field_validator("deployment_name")
    @classmethod
    def _require_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", name):
            raise ValueError("must have 1 to 64 characters, of A-Za-z0-9._- (or be empty)")
        return name

    @field_validator("environment", "auth_user_id_type", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper_log_level(cls, value: Any) -> Any:
        return value.strip().upper() if isinstance(value, str) else value

    @field_validator("docs_enabled", mode="before")
    @classmethod
    def _read_empty_as_unset(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("max_amount_cents", mode="before")
    @classmethod
    def _require_maximum_charges(cls, value: Any) -> str:
        text = str(value)
        maximum_charges(text)
        return text

    @field_validator("cors_origins", "allowed_redirect_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        """Accepts a JSON array or a comma-separated list; an origin is ``scheme://host[:port]``."""
        if not isinstance(value, str):
            return value
        if not value.strip().startswith("["):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        try:
            return tuple(json.loads(value))
        except json.JSONDecodeError:
            raise ValueError("is not a readable JSON array") from None

    @field_validator("cors_origins", "allowed_redirect_origins")
    @classmethod
    def _require_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Normalised as a browser sends them: in lower case, without the scheme's own port."""
        normalised = []
        for text in map(str.strip, origins):
            origin = origin_of(text)
            path = text.partition("://")[2].partition("/")[2]
            if origin is None or path or "?" in text or "#" in text:
                shown = "one of them" if "@" in text else repr(text)  # It may hold a password.
                raise ValueError(f"{shown} is not an origin; write it as https://shop.example.com")
            normalised.append(origin)
        return tuple(normalised)

    @field_validator("mongodb_url", "auth_mongodb_url")
    @classmethod
    def _require_database_url(cls, url: SecretStr) -> SecretStr:
        value = url.get_secret_value()
        if not value.startswith(("mongodb://", "mongodb+srv://", EMBEDDED_DATABASE_SCHEME)):
            raise ValueError("must start with mongodb://, mongodb+srv:// or mongomock://")
        try:
            urlsplit(value)
        except ValueError:
            raise ValueError("is not a readable URL") from None
        return url

    @field_validator("payment_success_url", "payment_cancel_url", "stripe_api_base")
    @classmethod
    def _require_http_url(cls, url: str, info: ValidationInfo) -> str:
        may_be_empty = info.field_name == "stripe_api_base"
        if origin_of(url) is None and (url or not may_be_empty):
            raise ValueError("must be an http:// or https:// URL")
        return url.rstrip("/") if url.endswith("/") and url.count("/") == 3 else url

    @model_validator(mode="after")
    def _refuse_unsafe_combinations(self) -> Self:
        problems = list(self._unsafe_combinations())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _unsafe_combinations(self) -> list[str]:
        problems = []
        secret = self.stripe_secret_key.get_secret_value()
        if secret and _mode_of(secret, "sk", "rk") is None:
            problems.append(
                "STRIPE_SECRET_KEY must start with sk_test_, sk_live_, rk_test_ or rk_live_"
            )
        publishable = self.stripe_publishable_key
        if publishable and _mode_of(publishable, "pk") is None:
            problems.append("STRIPE_PUBLISHABLE_KEY must start with pk_test_ or pk_live_")
        modes = {_mode_of(secret, "sk", "rk"), _mode_of(publishable, "pk")} - {None}
        if len(modes) > 1:
            problems.append(
                "STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY are of different modes "
                "(one is a test key, the other a live key)"
            )
        if "live" in modes and self.environment is not Environment.PRODUCTION:
            problems.append(
                f"a live Stripe key is refused while ENVIRONMENT is {self.environment.value}; "
                "set ENVIRONMENT=production or use test keys"
            )
        if "live" in modes and self.stripe_api_base.startswith("http://"):
            problems.append("STRIPE_API_BASE must be https:// for a live key, or empty")
        for name, value in (
            ("STRIPE_SECRET_KEY", secret),
            ("STRIPE_PUBLISHABLE_KEY", publishable),
        ):
            if "..." in value or "your_" in value:
                problems.append(f"{name} still holds a sample value")
        if os.environ.get("STRIPE_LOG") == "debug":
            # Read by the Stripe SDK itself, which prints past our logging and its redaction.
            problems.append("STRIPE_LOG=debug prints whole requests and answers; unset it")
        webhook_secrets = self.webhook_secrets
        if any(not value.startswith("whsec_") for value in webhook_secrets):
            problems.append("every STRIPE_WEBHOOK_SECRET must start with whsec_")
        if any("..." in value or "your_" in value for value in webhook_secrets):
            problems.append("a sample value from .env.example is still in STRIPE_WEBHOOK_SECRET")
        if self.auth_jwt_secret.get_secret_value() and self.auth_jwt_public_key:
            problems.append("set AUTH_JWT_SECRET or AUTH_JWT_PUBLIC_KEY, not both")
        if 0 < len(self.auth_jwt_secret.get_secret_value()) < 32:
            problems.append("AUTH_JWT_SECRET must have at least 32 characters (RFC 7518, 3.2)")
        if 0 < len(self.internal_service_key.get_secret_value()) < 16:
            problems.append("INTERNAL_SERVICE_KEY must have at least 16 characters")
        if not self.is_open:
            if not self.verifies_credentials:
                problems.append(
                    f"ENVIRONMENT is {self.environment.value} but no caller could be verified: set "
                    "AUTH_JWT_SECRET, AUTH_JWT_PUBLIC_KEY or INTERNAL_SERVICE_KEY"
                )
            if secret and not webhook_secrets:
                problems.append(
                    f"ENVIRONMENT is {self.environment.value} but STRIPE_WEBHOOK_SECRET is empty"
                )
        if self.environment is Environment.PRODUCTION:
            if not secret:
                problems.append("ENVIRONMENT is production but STRIPE_SECRET_KEY is empty")
            if not publishable:
                problems.append("ENVIRONMENT is production but STRIPE_PUBLISHABLE_KEY is empty")
            if not webhook_secrets and not secret:
                problems.append("ENVIRONMENT is production but STRIPE_WEBHOOK_SECRET is empty")
            if self.uses_embedded_database:
                problems.append(
                    "MONGODB_URL and AUTH_MONGODB_URL may not be mongomock:// in production: it "
                    "loses its data"
                )
        return problems

    @property
    def is_open(self) -> bool:
        """Whether callers need no credential: only in development (and in tests of it)."""
        return self.environment is Environment.DEVELOPMENT

    @property
    def verifies_credentials(self) -> bool:
        return bool(
            self.auth_jwt_secret.get_secret_value()
            or self.auth_jwt_public_key
            or self.internal_service_key.get_secret_value()
        )

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Several while a secret is being rolled (https://docs.stripe.com/webhooks#roll-endpoint-secrets)."""
        values = self.stripe_webhook_secret.get_secret_value().split(",")
        return tuple(value.strip() for value in values if value.strip())

    @property
    def mode(self) -> Mode:
        """Told from the key's prefix; a service without a key is in test mode."""
        return (
            _mode_of(self.stripe_secret_key.get_secret_value(), "sk", "rk")
            or _mode_of(self.stripe_publishable_key, "pk")
            or "test"
        )

    @property
    def uses_embedded_database(self) -> bool:
        return any(
            url.get_secret_value().startswith(EMBEDDED_DATABASE_SCHEME)
            for url in (self.mongodb_url, self.auth_mongodb_url)
        )

    @property
    def serves_docs(self) -> bool:
        if self.docs_enabled is not None:
            return self.docs_enabled
        return self.environment is not Environment.PRODUCTION

    @property
    def redirect_origins(self) -> frozenset[str]:
        """Where a Checkout Session may send the shopper back to."""
        if self.allowed_redirect_origins:
            return frozenset(self.allowed_redirect_origins)
        configured = (origin_of(self.payment_success_url), origin_of(self.payment_cancel_url))
        return frozenset(origin for origin in configured if origin) | frozenset(self.cors_origins)


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings; raises ConfigurationError with one clear line for each mistake.

    No line ever repeats a value that could be a secret.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = []
        for mistake in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in mistake["loc"]).upper()
            message = mistake["msg"].removeprefix("Value error, ")
            problems += [f"{name} {line}".strip() for line in message.splitlines()]
        raise ConfigurationError(problems) from None
    except UnicodeDecodeError:
        raise ConfigurationError([".env is not a UTF-8 text file"]) from None


def origin_of(url: str) -> str | None:
    """``scheme://host[:port]`` in lower case, or None for anything a browser may not be sent to."""
    # Python drops line breaks and tabs from a URL and takes a backslash for a character of the
    # host; a browser takes it for a slash (https://url.spec.whatwg.org/#concept-basic-url-parser).
    if _NOT_IN_A_URL.search(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        return None
    default_port = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, default_port) else "")


def _mode_of(key: str, *prefixes: str) -> Mode | None:
    for prefix in prefixes:
        if key.startswith(f"{prefix}_test_"):
            return "test"
        if key.startswith(f"{prefix}_live_"):
            return "live"
    return None
