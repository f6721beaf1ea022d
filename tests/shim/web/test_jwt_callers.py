"""The panel's signed JWTs: what is taken, and every way known of making one that must not be."""

import base64
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from shim.jwt_key import read
from shim.tenants.jwt_callers import MAX_LENGTH

ISSUER, AUDIENCE = "https://panel.example.com", "cloudpods"
SECRET = "0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
PATH = "/internal/cloudpods/9101"


def pem(private):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def claims(**other):
    now = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna@example.com", "tenant": "TENANT-123", "role": "owner"}
    return {name: value for name, value in {**made, "iat": now, "exp": now + 300, **other}.items() if value is not None}


def signed(key=RSA, algorithm="RS256", headers=None, **other):
    # Not jwt.encode, which refuses to sign some of what is tried here.
    return jwt.api_jws.encode(json.dumps(claims(**other)).encode(), key, algorithm=algorithm, headers=headers)


def raw(header, body, signature=b""):
    """Return a JWT of any header and body, encoded as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, body, signature)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.fixture
def api_with(api_on, tenants, rows):
    """Return a way to make an API that takes the JWTs of a key; a pod of TENANT-123 has the vmid 9101."""
    rows.pod(vmid=9101)

    def make(key, algorithms=()):
        read(key, algorithms)
        given = {"jwt_key": key, "jwt_algorithms": algorithms, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
        return api_on(tenants.model_copy(update=given))

    return make


@pytest.fixture
def api(api_with):
    """Return the API that knows the panel's RSA key."""
    return api_with(pem(RSA))


def ask(api, token, path=PATH):
    return api.simulate_get(path, headers={"Authorization": f"Bearer {token}"})


def test_a_users_jwt_is_taken_and_its_user_and_tenant_are_the_callers(api, sql, assert_problem, rows):
    rows.pod("lab2", vmid=9102, tenant_id="TENANT-456")
    assert ask(api, signed()).json["tenantId"] == "TENANT-123"
    assert_problem(ask(api, signed(), "/internal/cloudpods/9102"), 404, "cloudpod_not_found")
    order = {"tenantId": "TENANT-123", "requestedBy": "somebody-else"}
    headers = {"Authorization": f"Bearer {signed()}"}
    job = api.simulate_post(f"{PATH}/backup", json=order, headers=headers).json["job"]
    assert job["requestedBy"] == "anna@example.com"
    events = sql("SELECT DISTINCT actor, token_id FROM cloud_pod_events WHERE job_id = %s", job["id"])
    assert events == [("anna@example.com", "jwt:anna@example.com")]


@pytest.mark.parametrize(("role", "status"), [("owner", 422), ("admin", 422), ("dev", 403), ("billing", 403)])
def test_its_role_is_what_the_caller_may(api, role, status):
    headers = {"Authorization": f"Bearer {signed(role=role)}"}
    assert api.simulate_post("/internal/cloudpods", json={}, headers=headers).status_code == status


def test_an_idempotency_key_outlives_the_users_jwt(api, sql):
    order = {"tenantId": "TENANT-123"}
    for number in (1, 2):
        headers = {"Authorization": f"Bearer {signed(jti=str(number))}", "Idempotency-Key": "k1"}
        assert api.simulate_post(f"{PATH}/backup", json=order, headers=headers).status_code == 202
    assert sql.value("SELECT count(*) FROM cloud_pod_jobs") == 1


KINDS = [
    (RSA, pem(RSA), (), "RS256"),
    (RSA, pem(RSA), ("RS512", "PS256"), "PS256"),
    *[(key, pem(key), (), f"ES{bits if bits != 521 else 512}") for bits in EC for key in [ec.generate_private_key(EC[bits])]],
    *[(key, pem(key), (), "EdDSA") for key in [ed25519.Ed25519PrivateKey.generate()]],
    (SECRET, SECRET, (), "HS256"),
    (SECRET * 2, SECRET * 2, ("HS512",), "HS512"),
]


@pytest.mark.parametrize(("key", "known", "algorithms", "used"), KINDS, ids=[f"{k[3]}-{len(k[2])}" for k in KINDS])
def test_every_kind_of_key_has_its_algorithms(api_with, key, known, algorithms, used):
    assert ask(api_with(known, algorithms), signed(key, used)).status_code == 200


GOOD = {
    "issued by a clock that is a little ahead": {"iat": int(time.time()) + 10},
    "expired within the leeway": {"exp": int(time.time()) - 5},
    "without iat": {"iat": None},
    "one audience of several": {"aud": ["other", AUDIENCE]},
    "more claims than ours": {"email": "anna@example.com", "groups": ["a"]},
}


@pytest.mark.parametrize("other", GOOD.values(), ids=GOOD)
def test_what_is_in_order_is_taken(api, other):
    # The clock went on since the table was made.
    now = int(time.time())
    fresh = {name: now + {"iat": 10, "exp": -5}[name] if isinstance(value, int) else value for name, value in other.items()}
    assert ask(api, signed(**fresh)).status_code == 200


BAD_CLAIMS = {
    "another issuer": {"iss": "https://evil.example.com"},
    "the issuer with a slash": {"iss": ISSUER + "/"},
    "a list of issuers": {"iss": [ISSUER]},
    "no issuer": {"iss": None},
    "another audience": {"aud": "another-service"},
    "no audience": {"aud": None},
    "no audience in the list": {"aud": []},
    "no expiry": {"exp": None},
    "an expiry that is no number": {"exp": "tomorrow"},
    "an expiry without end": {"exp": float("inf")},
    "an expiry that is not a number": {"exp": float("nan")},
    "not yet valid": {"nbf": 4102444800},
    "issued in the future": {"iat": 4102444800},
    "no subject": {"sub": None},
    "a subject that is a number": {"sub": 5},
    "an empty subject": {"sub": ""},
    "a subject with NUL": {"sub": "anna\x00"},
    "a subject with a line break": {"sub": "anna\n"},
    "a subject without end": {"sub": "a" * 129},
    "no tenant": {"tenant": None},
    "a tenant that is not there": {"tenant": "TENANT-789"},
    "a tenant with NUL": {"tenant": "TENANT-123\x00"},
    "an empty tenant": {"tenant": ""},
    "two tenants": {"tenant": ["TENANT-123", "TENANT-456"]},
    "any tenant": {"tenant": "%"},
    "no role": {"role": None},
    "an unknown role": {"role": "root"},
    "a service": {"role": "service"},
    "a service without tenant": {"role": "service", "tenant": None},
    "roles": {"role": ["owner"]},
    "another case": {"role": "Owner"},
}


@pytest.mark.parametrize("other", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_claims_that_are_not_in_order_are_unknown(api, assert_problem, other):
    answer = ask(api, signed(**other))
    assert_problem(answer, 401, "unauthenticated")
    assert answer.json["detail"] == "the token is unknown or revoked"


def test_an_expired_jwt_is_told_so_and_nothing_else(api, assert_problem):
    answer = ask(api, signed(exp=int(time.time()) - 60))
    assert_problem(answer, 401, "unauthenticated")
    assert answer.json["detail"] == "the token has expired"


def test_a_deleted_tenants_jwt_is_unknown(api, sql, assert_problem):
    token = signed()
    assert ask(api, token).status_code == 200
    sql("UPDATE tenants SET deleted_at = now() WHERE id = 'TENANT-123'")
    assert_problem(ask(api, token), 401, "unauthenticated")


def confused(public):
    """Return a JWT signed with HS256, the public key's text for its secret, as PyJWT itself would refuse to make it."""
    import hashlib
    import hmac

    unsigned = raw({"alg": "HS256", "typ": "JWT"}, claims()).rsplit(".", 1)[0]
    mac = hmac.new(public.encode(), unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def resigned(**headers):
    """Return a JWT of a stranger's key, whose header says where to find that."""
    return signed(STRANGER, headers=headers)


def spoilt():
    head, body, signature = signed().split(".")
    other = signed(tenant="TENANT-456").split(".")[1]
    return {
        "alg none": raw({"alg": "none"}, claims()),
        "alg None": raw({"alg": "None"}, claims()),
        "alg NONE with a signature": raw({"alg": "NONE"}, claims(), b"x"),
        "no alg": raw({"typ": "JWT"}, claims(), b"x"),
        "alg is a list": raw({"alg": ["RS256"]}, claims(), b"x"),
        "alg null": raw({"alg": None}, claims(), b"x"),
        "algorithm confusion": confused(pem(RSA)),
        "algorithm confusion, stripped": confused(pem(RSA).strip()),
        "another algorithm of the same key": signed(algorithm="RS512"),
        "another key": signed(STRANGER),
        "a kid of a path": resigned(kid="../../../dev/null"),
        "a kid of SQL": resigned(kid="x' UNION SELECT 'secret"),
        "a kid that is no text": raw({"alg": "RS256", "kid": {"$ne": 1}}, claims(), b"x"),
        "a jku": resigned(jku="http://127.0.0.1:9/jwks.json"),
        "an x5u": resigned(x5u="http://127.0.0.1:9/cert.pem"),
        "its own jwk": resigned(jwk=json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(STRANGER.public_key()))),
        "an unknown crit": signed(headers={"crit": ["b64x"], "b64x": True}),
        "an unencoded payload": resigned(b64=False, crit=["b64"]),
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{other}.{signature}",
        "half a signature": f"{head}.{body}.{signature[: len(signature) // 2]}",
        "two parts": f"{head}.{body}",
        "four parts": f"{head}.{body}.{signature}.x",
        "dots": "..",
        "no base64": "a.$$.b",
        "header is a list": raw([], claims(), b"x"),
        "header nested without end": raw(b"[" * 2500, b"{}", b"x"),
        "header is no text": raw(b"\xff\xfe", b"{}", b"x"),
        "body is a list": jwt.api_jws.encode(b"[]", RSA, algorithm="RS256"),
        "body is no JSON": jwt.api_jws.encode(b"\xff", RSA, algorithm="RS256"),
        "body nested without end": jwt.api_jws.encode(b"[" * 2000, RSA, algorithm="RS256"),
        "huge": signed(padding="x" * MAX_LENGTH),
        "not ASCII": "e\xff.e\xff.e\xff",
    }


@pytest.mark.parametrize("attack", spoilt())
def test_an_attack_is_unknown(api, assert_problem, attack):
    answer = ask(api, spoilt()[attack])
    assert_problem(answer, 401, "unauthenticated")
    assert answer.json["detail"] == "the token is unknown or revoked"


def test_with_a_shared_secret_a_public_keys_algorithm_is_unknown(api_with):
    api = api_with(SECRET)
    assert ask(api, signed(SECRET, "HS256")).status_code == 200
    assert [ask(api, token).status_code for token in (signed(), signed(SECRET * 2, "HS512"), signed("x" * 32, "HS256"))] == [
        401
    ] * 3


def test_a_service_token_is_good_beside_jwts_and_one_of_ours_is_never_read_as_a_jwt(api):
    assert api.simulate_get(PATH).status_code == 200
    assert ask(api, "cpods_" + signed()).status_code == 401


def test_without_a_key_no_jwt_is_good(api_on, tenants, rows):
    rows.pod(vmid=9101)
    api = api_on(tenants)
    assert [ask(api, token).status_code for token in (signed(), signed(SECRET, "HS256"), raw({"alg": "none"}, claims()))] == [
        401
    ] * 3


def test_the_log_does_not_have_the_token(api, caplog):
    token = signed(STRANGER)
    with caplog.at_level("DEBUG"):
        ask(api, token)
    assert token.split(".")[2] not in caplog.text


BARE = "".join(pem(RSA).strip().splitlines()[1:-1])


@pytest.mark.parametrize(
    "text",
    [
        BARE,
        BARE.replace("+", "-").replace("/", "_").rstrip("="),
        pem(RSA).replace("-----", ""),
        pem(RSA).replace("-----", "").replace("\n", "\\n"),
        "\n".join(pem(RSA).strip().splitlines()[1:-1]),
        ' \n{"kty": "RSA", "n": "' + "x" * 300 + '"}',
        '[{"kty": "RSA", "n": "' + "x" * 300 + '"}]',
    ],
    ids=range(7),
)
def test_a_public_key_in_another_form_is_never_a_shared_secret(text):
    with pytest.raises(ValueError, match="JWT_KEY"):
        read(text)


def test_blanks_around_a_key_are_not_of_it():
    assert read(f"\n {pem(RSA)}\n").algorithms == ("RS256",)
    assert read(f" {SECRET}\n").key == SECRET.encode()


@pytest.mark.parametrize("secret", ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "MIIB" + "A" * 40, "0" * 64])
def test_a_secret_that_is_base64_of_no_key_is_taken(secret):
    assert read(secret).key == secret.encode()


def test_a_tenant_that_is_no_text_is_unknown(api):
    token = signed(tenant="\ud800")
    assert api.simulate_get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize(("iat", "exp", "status"), [(0, 86400, 200), (0, 86500, 401), (None, 86400, 200), (None, 86500, 401)])
def test_a_token_that_is_good_for_more_than_a_day_is_not_good(api, iat, exp, status):
    now = int(time.time())
    token = signed(iat=None if iat is None else now, exp=now + exp)
    assert api.simulate_get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == status
