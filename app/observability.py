"""Structured logs: one event a line, with the request id, and without anything secret."""

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from functools import lru_cache
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

REDACTED = "[redacted]"

# Their debug (and for httpx, info) lines hold whole bodies, documents and URLs.
_WARNING_AT_LEAST = ("stripe", "pymongo", "aiohttp", "httpx", "httpcore", "urllib3")
_ROUTED = (*_WARNING_AT_LEAST, "uvicorn", "uvicorn.error", "asyncio", "fastapi")

_MAX_DEPTH = 8

_SENSITIVE_KEY = re.compile(
    r"secret|passw|token|email|authorization|credential(?!s?_id)|cookie|signature"
    r"|(?:api|service|internal|private|stripe)[_\-]?key|(?:mongodb|database)[_\-]?ur[il]"
    r"|(?:^|[_.\-])(?:pwd|card|cards|cvc|cvv|pan|jwt|dsn)(?:$|[_.\-])",
    re.IGNORECASE,
)

# One of these is in whatever _SENSITIVE_TEXT matches; looking for them is twenty times faster.
_HINTS = ("@", "sk_", "rk_", "whsec_", "_secret_", "mongodb", "bearer", "eyj")
# Possessive quantifiers and look-behinds keep each alternative linear on long unbroken text.
_SENSITIVE_TEXT = re.compile(
    r"""
      (?<![A-Za-z0-9])(?:sk|rk)_(?:test|live)_[\w*]++         # Stripe secret or restricted key
    | whsec_[\w+/=*\-]++                                     # webhook signing secret
    | (?<!\w)[a-z]{2,8}_(?:(?!_secret_)\w)++_secret_\w++     # client secrets: pi_, cs_, seti_
    | mongodb(?:\+srv)?://\S++                               # a database URL as a whole
    | (?<=://)[^\s/]+@                                       # credentials in any other URL
    | (?i:(?<=\bbearer)\s++[\w.~+/\-]{16,}+=*+)              # Authorization: Bearer
    | \beyJ[\w\-]{8,}+\.[\w\-]++(?:\.[\w\-]*+)*+             # a JWT (or JWE) on its own
    | (?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]++\.)+[\w\-]{2,}    # e-mail address
    """,
    re.VERBOSE,
)
# 13 to 19 digits, perhaps in groups; a card scheme's numbers begin with 2 to 6 (ISO/IEC 7812).
_CARD_NUMBER = re.compile(r"(?<![\w.])[2-6](?:[ \-]?\d){12,18}(?![\w])")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_request_id() -> str | None:
    """None outside of a request."""
    return _request_id.get()


def set_request_id(request_id: str | None) -> Token[str | None]:
    return _request_id.set(request_id)


def reset_request_id(token: Token[str | None]) -> None:
    _request_id.reset(token)


def get_logger(name: str) -> FilteringBoundLogger:
    """``log.info("refund.created", payment_id=..., amount=...)``: an event, then facts."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def cause_of(error: BaseException) -> str | None:
    """What an error of ours came of, in its maker's words, for the log alone."""
    cause = error.__cause__
    return None if cause is None else f"{type(cause).__name__}: {cause}"


def configure_logging(level: str, *, json: bool, stream: TextIO | None = None) -> None:
    """Sends our events and those of the standard library to ``stream`` (standard output).

    May be called again: the last call counts. uvicorn must be started with ``log_config=None``,
    or it puts its own handlers back.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # The trace becomes text here, so that the redaction sees it.
        structlog.processors.format_exc_info,
    ]
    final: list[Processor] = [redact, _renderer(json)]
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *args: _LineLogger(args[0] if args else "", stream or sys.stdout),
        # Loggers are module-level; a cached one would not see the next configure_logging.
        cache_logger_on_first_use=False,
    )

    handler = _OutputHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    for previous in [each for each in root.handlers if isinstance(each, _OutputHandler)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _ROUTED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(
            max(threshold, logging.WARNING) if name in _WARNING_AT_LEAST else logging.NOTSET
        )
    # One line a request is written by RequestContextMiddleware, with a template instead of a path.
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()
    access.propagate = False
    access.disabled = True


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The last processor before the renderer: from here on nothing is secret."""
    for key, value in event.items():
        kind = type(value)
        if kind is str:
            event[key] = REDACTED if _is_sensitive(key) and value else scrub(value)
        elif kind is bool or value is None:
            continue
        elif kind is int or kind is float:
            if _is_sensitive(key):
                event[key] = REDACTED
        else:
            event[key] = _redact_value(key, value, _MAX_DEPTH)
    return event


def scrub(text: str) -> str:
    """``text`` without keys, tokens, client secrets, database URLs, addresses and card numbers."""
    lowered = text.lower()
    for hint in _HINTS:
        if hint in lowered:
            text = _SENSITIVE_TEXT.sub(_replacement, text)
            break
    return _CARD_NUMBER.sub(_without_card_number, text) if len(text) >= 13 else text


def _redact_value(key: str | None, value: Any, depth: int) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if key is not None and _is_sensitive(key):
        return REDACTED
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, int | float):
        return value
    if depth > 0:
        if isinstance(value, Mapping):
            return {
                scrub(str(name)): _redact_value(str(name), item, depth - 1)
                for name, item in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [_redact_value(None, item, depth - 1) for item in value]
    if isinstance(value, BaseException):
        return scrub(f"{type(value).__name__}: {value}")
    # A renderer would call repr() after us; text made here is scrubbed.
    return scrub(str(value))


@lru_cache(maxsize=2048)
def _is_sensitive(key: str) -> bool:
    return _SENSITIVE_KEY.search(key) is not None


def _replacement(match: re.Match[str]) -> str:
    text = match[0]
    if text[0].isspace():
        return f" {REDACTED}"
    return f"{REDACTED}@" if text.endswith("@") else REDACTED


def _without_card_number(match: re.Match[str]) -> str:
    digits = [int(character) for character in match[0] if character.isdigit()]
    return REDACTED if _passes_luhn(digits) else match[0]


def _passes_luhn(digits: list[int]) -> bool:
    total = sum(digits[-1::-2])
    for digit in digits[-2::-2]:
        total += digit * 2 - 9 if digit > 4 else digit * 2
    return total % 10 == 0


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request_id = _request_id.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    return event


def _renderer(json: bool) -> Processor:
    if json:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class _LineLogger:
    """What structlog hands the finished line to; one write, so that lines never mix."""

    __slots__ = ("_stream", "name")

    def __init__(self, name: str, stream: TextIO) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = msg


class _OutputHandler(logging.StreamHandler[TextIO]):
    """Looks ``sys.stdout`` up at each line: it may be replaced after the start."""

    def __init__(self, stream: TextIO | None) -> None:
        logging.Handler.__init__(self)
        self._chosen = stream

    @property
    def stream(self) -> TextIO:
        return self._chosen or sys.stdout

    @stream.setter
    def stream(self, value: TextIO) -> None:
        self._chosen = value
