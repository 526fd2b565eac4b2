"""Who is let in, as whom, and what they may touch."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fastapi import FastAPI

from app.auth import Caller, CallerVerifier
from app.errors import ConfigurationError, Forbidden, Unauthenticated
from app.settings import Settings

SECRET = "a secret of the auth service, 32+"
INTERNAL_KEY = "clé-interne-très-secrète"
# ASGI hands header bytes on, and Starlette reads them as latin-1.
RECEIVED_KEY = INTERNAL_KEY.encode().decode("latin-1")

SettingsWith = Callable[..., Settings]


def pem_of(key: Any) -> str:
    public = key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "ascii")


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def verifier(settings_with: SettingsWith) -> CallerVerifier:
    return CallerVerifier(
        settings_with(environment="test", auth_jwt_secret=SECRET, internal_service_key=INTERNAL_KEY)
    )


def bearer(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    payload = {"sub": "user-1", "exp": int(time.time()) + 60, **claims}
    present = {name: value for name, value in payload.items() if value is not None}
    return "Bearer " + jwt.encode(present, key, algorithm=algorithm)


def bearer_by_hand(header: dict[str, Any], claims: dict[str, Any], secret: bytes = b"") -> str:
    """What no JWT library agrees to make."""

    def part(value: dict[str, Any]) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    signed = part(header) + b"." + part(claims)
    signature = hmac.new(secret, signed, hashlib.sha256).digest() if secret else b""
    return "Bearer " + (signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def later() -> int:
    return int(time.time()) + 60


def test_token_of_the_auth_service_names_the_user(verifier: CallerVerifier) -> None:
    assert verifier.verify(bearer(), None) == Caller("user-1", "user")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_scheme_is_read_in_any_case_and_spacing(verifier: CallerVerifier, scheme: str) -> None:
    token = bearer().removeprefix("Bearer ")
    assert verifier.verify(f"{scheme} {token} ", None).user_id == "user-1"


@pytest.mark.parametrize("role", ["admin", "service"])
def test_admin_and_service_act_for_anyone(verifier: CallerVerifier, role: str) -> None:
    caller = verifier.verify(bearer(role=role), None)
    assert caller.role == role
    assert caller.acts_for_anyone


@pytest.mark.parametrize(
    "role", ["", "Admin", "internal", "anonymous", "superuser", None, 1, True, ["admin"], {"a": 1}]
)
def test_any_other_role_is_an_ordinary_user(verifier: CallerVerifier, role: object) -> None:
    caller = verifier.verify(bearer(role=role), None)
    assert caller == Caller("user-1", "user")
    assert not caller.acts_for_anyone


def test_expired_token_is_refused_and_the_answer_says_so(verifier: CallerVerifier) -> None:
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(bearer(exp=int(time.time()) - 31), None)


def test_clocks_may_differ_by_a_few_seconds(verifier: CallerVerifier) -> None:
    assert verifier.verify(bearer(exp=int(time.time()) - 3), None).user_id == "user-1"


def test_token_that_is_not_valid_yet_is_refused(verifier: CallerVerifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer(nbf=later()), None)


def test_token_for_a_named_audience_is_accepted(verifier: CallerVerifier) -> None:
    assert verifier.verify(bearer(aud="audiobooker"), None).user_id == "user-1"


@pytest.mark.parametrize("missing", ["exp", "sub"])
def test_token_without_a_required_claim_is_refused(verifier: CallerVerifier, missing: str) -> None:
    claims: dict[str, Any] = {missing: None}
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer(**claims), None)


@pytest.mark.parametrize("subject", ["", "   ", "u" * 129, 17, ["user-1"], {"id": "user-1"}])
def test_unusable_subject_is_refused(verifier: CallerVerifier, subject: object) -> None:
    token = bearer_by_hand(
        {"alg": "HS256", "typ": "JWT"}, {"sub": subject, "exp": later()}, SECRET.encode()
    )
    with pytest.raises(Unauthenticated):
        verifier.verify(token, None)


def test_subject_of_128_characters_is_accepted(verifier: CallerVerifier) -> None:
    assert verifier.verify(bearer(sub="u" * 128), None).user_id == "u" * 128


def test_token_signed_with_another_secret_is_refused(verifier: CallerVerifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer("another secret, as long as needed"), None)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("secret", [b"", SECRET.encode()])
def test_unsigned_token_is_refused(verifier: CallerVerifier, algorithm: str, secret: bytes) -> None:
    token = bearer_by_hand({"alg": algorithm}, {"sub": "user-1", "exp": later()}, secret)
    with pytest.raises(Unauthenticated):
        verifier.verify(token, None)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_other_algorithm_with_the_right_secret_is_refused(
    verifier: CallerVerifier, algorithm: str, rsa_key: rsa.RSAPrivateKey
) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer("s" * 64, algorithm), None)
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer(rsa_key, "RS256"), None)


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer not.a.token",
        "Bearer a b",
        "Bearer \u00e9",
        "token",
    ],
)
def test_malformed_authorization_is_refused(verifier: CallerVerifier, authorization: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(authorization, None)


def test_refusal_never_repeats_the_credential(verifier: CallerVerifier) -> None:
    for authorization, key in ((bearer("z" * 40), None), (None, "wrong-key-entirely")):
        with pytest.raises(Unauthenticated) as refusal:
            verifier.verify(authorization, key)
        assert str(authorization or key).removeprefix("Bearer ") not in refusal.value.detail


def test_rs256_and_es256_tokens_are_verified_with_the_public_key(
    settings_with: SettingsWith, rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    for key, algorithm in ((rsa_key, "RS256"), (ec_key, "ES256")):
        verifier = CallerVerifier(
            settings_with(environment="test", auth_jwt_public_key=pem_of(key))
        )
        assert verifier.verify(bearer(key, algorithm), None) == Caller("user-1", "user")


def test_public_key_on_one_line_with_backslash_n_is_read(
    settings_with: SettingsWith, rsa_key: rsa.RSAPrivateKey
) -> None:
    one_line = pem_of(rsa_key).replace("\n", "\\n")
    verifier = CallerVerifier(settings_with(environment="test", auth_jwt_public_key=one_line))
    assert verifier.verify(bearer(rsa_key, "RS256"), None).user_id == "user-1"


def test_token_signed_with_the_public_key_as_hmac_secret_is_refused(
    settings_with: SettingsWith, rsa_key: rsa.RSAPrivateKey
) -> None:
    pem = pem_of(rsa_key)
    verifier = CallerVerifier(settings_with(environment="test", auth_jwt_public_key=pem))
    for secret in (pem, pem.strip(), pem.replace("\n", "\\n")):
        token = bearer_by_hand(
            {"alg": "HS256", "typ": "JWT"}, {"sub": "user-1", "exp": later()}, secret.encode()
        )
        with pytest.raises(Unauthenticated):
            verifier.verify(token, None)


def test_token_of_another_key_or_of_the_other_kind_is_refused(
    settings_with: SettingsWith, rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    verifier = CallerVerifier(settings_with(environment="test", auth_jwt_public_key=pem_of(ec_key)))
    for key, algorithm in (
        (rsa_key, "RS256"),
        (rsa_key, "PS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ):
        with pytest.raises(Unauthenticated):
            verifier.verify(bearer(key, algorithm), None)


def unusable_keys() -> dict[str, str]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return {
        "not a PEM": "ssh-rsa AAAAB3Nza",
        "cut short": "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "not ASCII": "-----BEGIN PUBLIC KEY-----\u00e9",
        "a private key": private.decode(),
        "too short": pem_of(
            rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to refuse
        ),
        "another curve": pem_of(ec.generate_private_key(ec.SECP384R1())),
        "another kind": pem_of(ed25519.Ed25519PrivateKey.generate()),
    }


@pytest.mark.parametrize(("why", "pem"), unusable_keys().items())
def test_unusable_public_key_stops_the_start_with_one_line(
    settings_with: SettingsWith, why: str, pem: str
) -> None:
    settings = settings_with(environment="test", auth_jwt_public_key=pem)
    with pytest.raises(ConfigurationError) as stop:
        CallerVerifier(settings)
    [line] = stop.value.problems
    assert line.startswith("AUTH_JWT_PUBLIC_KEY ")
    assert "\n" not in line
    assert all(part not in line for part in pem.splitlines()[1:-1])


def test_internal_key_may_act_for_anyone(verifier: CallerVerifier) -> None:
    caller = verifier.verify(None, RECEIVED_KEY)
    assert caller == Caller(None, "internal")
    assert caller.acts_for_anyone


@pytest.mark.parametrize(
    "key", ["x", "\u00e9" * 20, "\U0001f511", RECEIVED_KEY + " ", RECEIVED_KEY[:-1]]
)
def test_wrong_internal_key_is_refused(verifier: CallerVerifier, key: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(None, key)


def test_wrong_internal_key_is_refused_beside_a_good_token(verifier: CallerVerifier) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(bearer(), "not the key")


def test_right_internal_key_decides_whatever_token_is_passed_on(verifier: CallerVerifier) -> None:
    assert verifier.verify("Bearer of.some.session", RECEIVED_KEY).role == "internal"


def test_no_credential_is_refused_outside_development(verifier: CallerVerifier) -> None:
    for authorization in (None, ""):
        with pytest.raises(Unauthenticated, match="Send a bearer token"):
            verifier.verify(authorization, None)


def test_no_credential_is_needed_in_development(settings_with: SettingsWith) -> None:
    for verifier in (
        CallerVerifier(settings_with()),
        CallerVerifier(settings_with(auth_jwt_secret=SECRET, internal_service_key=INTERNAL_KEY)),
    ):
        for nothing in (None, ""):
            caller = verifier.verify(nothing, nothing)
            assert caller == Caller(None, "anonymous")
            assert caller.acts_for_anyone


def test_credential_in_development_is_honoured_or_refused_when_it_can_be_verified(
    settings_with: SettingsWith,
) -> None:
    verifier = CallerVerifier(
        settings_with(auth_jwt_secret=SECRET, internal_service_key=INTERNAL_KEY)
    )
    assert verifier.verify(bearer(), None) == Caller("user-1", "user")
    assert verifier.verify(None, RECEIVED_KEY).role == "internal"
    for authorization, key in ((bearer("z" * 40), None), (None, "wrong"), ("Basic x", None)):
        with pytest.raises(Unauthenticated):
            verifier.verify(authorization, key)


def test_credential_that_nothing_can_verify_is_ignored_in_development(
    settings_with: SettingsWith,
) -> None:
    verifier = CallerVerifier(settings_with())
    assert verifier.verify(bearer(), None).role == "anonymous"
    assert verifier.verify(None, "some key").role == "anonymous"


def test_token_is_still_checked_in_development_beside_an_unverifiable_internal_key(
    settings_with: SettingsWith,
) -> None:
    verifier = CallerVerifier(settings_with(auth_jwt_secret=SECRET))
    assert verifier.verify(bearer(), "some key") == Caller("user-1", "user")


def test_credential_that_nothing_can_verify_is_refused_outside_development(
    settings_with: SettingsWith,
) -> None:
    only_internal = CallerVerifier(
        settings_with(environment="test", internal_service_key=INTERNAL_KEY)
    )
    with pytest.raises(Unauthenticated):
        only_internal.verify(bearer(), None)
    only_tokens = CallerVerifier(settings_with(environment="test", auth_jwt_secret=SECRET))
    with pytest.raises(Unauthenticated):
        only_tokens.verify(None, RECEIVED_KEY)


EVERYONE_ELSE = [
    Caller(None, "anonymous"),
    Caller("admin-1", "admin"),
    Caller("mailer", "service"),
    Caller(None, "internal"),
]


def test_user_touches_only_what_is_theirs() -> None:
    caller = Caller("user-1", "user")
    caller.require_user("user-1")
    assert caller.may_see("user-1")
    assert not caller.may_see("user-2")
    with pytest.raises(Forbidden):
        caller.require_user("user-2")


@pytest.mark.parametrize("caller", EVERYONE_ELSE, ids=lambda caller: caller.role)
def test_everyone_else_touches_anything(caller: Caller) -> None:
    caller.require_user("user-2")
    assert caller.may_see("user-2")
    caller.require_refund_permission(allow_user_refunds=False)


def test_user_refunds_only_where_the_setting_allows_it() -> None:
    caller = Caller("user-1", "user")
    caller.require_refund_permission(allow_user_refunds=True)
    with pytest.raises(Forbidden):
        caller.require_refund_permission(allow_user_refunds=False)


def test_scopes_of_different_callers_differ() -> None:
    callers = [*EVERYONE_ELSE, Caller("user-1", "user"), Caller("admin-1", "user")]
    callers.append(Caller("internal", "user"))
    assert len({caller.scope for caller in callers}) == len(callers)
    assert Caller("user-1", "user").scope == "user:user-1"
    assert Caller(None, "internal").scope == "internal"
    assert Caller(None, "anonymous").scope == "anonymous"


async def test_dependency_reads_both_headers(client: httpx.AsyncClient) -> None:
    key = {"X-Internal-Service-Key": "internal-key-of-the-tests"}
    assert (await client.get("/api/v1/whoami", headers=key)).json()["role"] == "internal"
    for headers in ({}, {"Authorization": "Basic eA=="}, {"X-Internal-Service-Key": "no"}):
        refusal = await client.get("/api/v1/whoami", headers=headers)
        assert refusal.status_code == 401
        assert refusal.headers["WWW-Authenticate"] == "Bearer"
        assert refusal.json()["code"] == "unauthenticated"


def test_openapi_offers_either_credential(app: FastAPI) -> None:
    document = app.openapi()
    schemes = document["components"]["securitySchemes"]
    assert schemes["BearerToken"]["scheme"] == "bearer"
    assert schemes["InternalServiceKey"]["name"] == "X-Internal-Service-Key"
    security = document["paths"]["/api/v1/whoami"]["get"]["security"]
    assert {"BearerToken": []} in security
    assert {"InternalServiceKey": []} in security
