"""Who is calling, and what they may touch: a bearer JWT or the internal service key -> Caller."""

import hmac
from typing import Annotated

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from app.domain.callers import ANONYMOUS, INTERNAL, Caller, Role
from app.errors import ConfigurationError, Unauthenticated, ValidationFailed
from app.settings import Settings

_Key = bytes | RSAPublicKey | EllipticCurvePublicKey

CLOCK_LEEWAY_SECONDS = 10
MAX_SUBJECT_LENGTH = 128

_bearer_scheme = HTTPBearer(
    scheme_name="BearerToken",
    bearerFormat="JWT",
    description="A JWT from the auth service; `sub` is the user id.",
    auto_error=False,
)
_internal_key_scheme = APIKeyHeader(
    name="X-Internal-Service-Key",
    scheme_name="InternalServiceKey",
    description="Shared with the API proxy and sister services.",
    auto_error=False,
)


class CallerVerifier:
    """Raises ConfigurationError when AUTH_JWT_PUBLIC_KEY cannot be used, so the start stops."""

    def __init__(self, settings: Settings) -> None:
        self._is_open = settings.is_open
        self._user_ids = settings.auth_user_id_type
        self._internal_key = settings.internal_service_key.get_secret_value().encode()
        self._key: _Key | None = None
        # The configured key decides the algorithm, never the token's header: a token signed with
        # HS256 and the public key as its secret must not pass (RFC 8725, 2.1 and 3.1).
        self._algorithms: list[str] = []
        secret = settings.auth_jwt_secret.get_secret_value()
        if secret:
            self._key, self._algorithms = secret.encode(), ["HS256"]
        elif settings.auth_jwt_public_key:
            self._key = _read_public_key(settings.auth_jwt_public_key)
            self._algorithms = ["RS256" if isinstance(self._key, RSAPublicKey) else "ES256"]

    def verify(self, authorization: str | None, internal_key: str | None) -> Caller:
        """Takes the two headers as received; raises Unauthenticated.

        The internal key decides when both are sent. A credential that was sent and is wrong is
        refused, also in development; one that no setting can verify is ignored there, where no
        caller needs a credential.
        """
        if internal_key and self._internal_key:
            # Header text is latin-1 on its way through ASGI; this gives the caller's bytes back.
            received = internal_key.encode("latin-1", errors="replace")
            if not hmac.compare_digest(received, self._internal_key):
                raise Unauthenticated("X-Internal-Service-Key is not the right one.")
            return INTERNAL
        if authorization and self._key is not None:
            return self._verify_bearer(authorization, self._key)
        if self._is_open:
            return ANONYMOUS
        if authorization or internal_key:
            raise Unauthenticated("This kind of credential is not accepted here.")
        raise Unauthenticated("Send a bearer token, or X-Internal-Service-Key.")

    def _verify_bearer(self, authorization: str, key: _Key) -> Caller:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("The Authorization header must be: Bearer <token>.")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                leeway=CLOCK_LEEWAY_SECONDS,
                # The audience is not among our settings, and a token that names one is fine.
                options={"require": ["exp", "sub"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The bearer token has expired; sign in again.") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("The bearer token is not valid.") from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not 0 < len(subject.strip()) <= MAX_SUBJECT_LENGTH:
            raise Unauthenticated("The bearer token has no usable sub.")
        role = claims.get("role")
        privileged: Role | None = role if role in ("admin", "service") else None
        try:
            subject = self._user_ids.canonical(subject)
        except ValidationFailed as error:
            # A service's name need not be a user id; a user's must be.
            if privileged is None:
                raise Unauthenticated("The bearer token has no usable sub.") from error
        return Caller(subject, privileged or "user", self._user_ids.spellings(subject)[1:])


async def current_caller(
    request: Request,
    _bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer_scheme)],
    _internal_key: Annotated[str | None, Security(_internal_key_scheme)],
) -> Caller:
    """The FastAPI dependency; needs ``app.state.caller_verifier``.

    The two schemes are here for the OpenAPI document. They report a malformed Authorization header
    as absent, so the headers themselves are read.
    """
    verifier: CallerVerifier = request.app.state.caller_verifier
    headers = request.headers
    caller = verifier.verify(headers.get("authorization"), headers.get("x-internal-service-key"))
    request.state.caller = caller
    return caller


def _read_public_key(pem: str) -> RSAPublicKey | EllipticCurvePublicKey:
    # An environment file holds one line; line breaks are then commonly written as \n.
    text = pem.replace("\\n", "\n").strip()
    if "PRIVATE KEY" in text:
        raise ConfigurationError(["AUTH_JWT_PUBLIC_KEY holds a private key; give the public one"])
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(
            ["AUTH_JWT_PUBLIC_KEY is not a readable PEM public key (-----BEGIN PUBLIC KEY-----)"]
        ) from None
    if isinstance(key, RSAPublicKey):
        if key.key_size < 2048:
            raise ConfigurationError(
                ["AUTH_JWT_PUBLIC_KEY must have at least 2048 bits (RFC 7518, 3.3)"]
            )
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    raise ConfigurationError(
        ["AUTH_JWT_PUBLIC_KEY must be an RSA key (RS256) or a P-256 key (ES256)"]
    )
