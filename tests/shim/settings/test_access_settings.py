"""The settings of JWTs and of rate limits: what would be unsafe or means nothing is refused at start, without the key."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from shim import config
from shim.errors import SettingsError

SECRET = "0123456789abcdef0123456789abcdef"
WHO = {"jwt_issuer": "https://panel.example.com", "jwt_audience": "cloudpods"}
SPKI, PEM = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.PEM


def pem(private):
    return private.public_key().public_bytes(PEM, SPKI).decode()


def private_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def check(**values):
    return config.check({"database_url": "postgresql://h/n", "redis_url": "redis://h/0", **values})


def refusal(**values):
    with pytest.raises(SettingsError) as caught:
        check(**values)
    return caught.value.message


@pytest.mark.parametrize("key", [SECRET, pem(RSA), pem(ed25519.Ed25519PrivateKey.generate())], ids=["secret", "RSA", "Ed25519"])
def test_a_key_with_issuer_and_audience_is_enough(key):
    assert check(jwt_key=key, **WHO).jwt_key == key


@pytest.mark.parametrize("missing", WHO)
def test_a_key_without_issuer_or_audience_is_refused(missing):
    message = refusal(jwt_key=SECRET, **{name: value for name, value in WHO.items() if name != missing})
    assert missing.upper() in message
    assert SECRET not in message


@pytest.mark.parametrize("lone", [{"jwt_issuer": "x"}, {"jwt_audience": "x"}, {"jwt_algorithms": "HS256"}])
def test_the_rest_without_a_key_is_refused(lone):
    assert "without JWT_KEY" in refusal(**lone)


BAD_KEYS = {
    "empty": ("", "32 bytes"),
    "short": (SECRET[:31], "32 bytes"),
    "private": (private_pem(RSA), "not a PEM public key"),
    "torn": (pem(RSA)[:200], "not a PEM public key"),
    "OpenSSH": ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ", "not a PEM public key"),
    "JWK": ('{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}', "not a PEM public key"),
    "weak RSA": (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "2048 bits"),
    "a strange curve": (pem(ec.generate_private_key(ec.SECP256K1())), "must be RSA, EC"),
    "DSA": (pem(dsa.generate_private_key(2048)), "must be RSA, EC"),
}


@pytest.mark.parametrize(("key", "rule"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_refused_and_not_told(key, rule):
    message = refusal(jwt_key=key, **WHO)
    assert rule in message
    assert not key or key not in message
    assert "PRIVATE" not in message


CONFUSED = [
    (pem(RSA), "HS256"),
    (pem(RSA), "RS256,HS256"),
    (pem(RSA), "ES256"),
    (pem(ec.generate_private_key(ec.SECP256R1())), "ES384"),
    (SECRET, "RS256"),
    (SECRET, "HS256,EdDSA"),
    (SECRET, "none"),
    (pem(RSA), "none"),
    (pem(RSA), "rs256"),
]


@pytest.mark.parametrize(("key", "algorithms"), CONFUSED)
def test_an_algorithm_of_another_kind_of_key_is_refused(key, algorithms):
    assert "JWT_ALGORITHMS" in refusal(jwt_key=key, jwt_algorithms=algorithms, **WHO)


def test_a_longer_hash_needs_a_longer_secret():
    assert "64 bytes" in refusal(jwt_key=SECRET, jwt_algorithms="HS512", **WHO)
    assert check(jwt_key=SECRET * 2, jwt_algorithms="HS256, HS512", **WHO).jwt_algorithms == ("HS256", "HS512")


def test_a_key_may_be_a_file(monkeypatch, tmp_path):
    (tmp_path / "key.pem").write_text(pem(RSA))
    assert config.given({"CLOUDPODS_JWT_KEY_FILE": str(tmp_path / "key.pem")}) == {"jwt_key": pem(RSA).strip()}


def test_a_rule_of_several_settings_tells_no_password():
    assert "hunter2" not in refusal(database_url="postgresql://u:hunter2@h/n", vmid_first=500, vmid_last=400)


def test_settings_do_not_print_the_key():
    assert SECRET not in repr(check(jwt_key=SECRET, **WHO))


@pytest.mark.parametrize("name", ["rate_create", "rate_destroy", "rate_orders"])
@pytest.mark.parametrize("text", ["", "0/minute", "-1/minute", "many", "10", "10/fortnight", "1/minute;5/hour"])
def test_a_rate_that_is_none_is_refused(name, text):
    message = refusal(**{name: text})
    assert message.startswith(f"CLOUDPODS_{name.upper()}=")
    assert "600/minute" in message


@pytest.mark.parametrize("text", ["1/second", "20 per 5 seconds", "1000/hour"])
def test_a_rate_is_a_number_per_time(text):
    assert check(rate_create=text).rate_create == text
