"""The key that the panel signs its JWTs with, and the algorithms it is for: never those of another kind of key.

| key | algorithms | without a setting |
|---|---|---|
| RSA, 2048 bits or more | RS256 RS384 RS512 PS256 PS384 PS512 | RS256 |
| EC P-256, P-384, P-521 | ES256, ES384, ES512 | the curve's |
| Ed25519, Ed448 | EdDSA | EdDSA |
| shared secret of 32, 48, 64 bytes | HS256, HS384, HS512 | HS256 |

A public key whose text were taken for a shared secret would let everybody sign (algorithm confusion).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}


class JwtKey(NamedTuple):
    """A key, and the algorithms that a JWT may name with it."""

    key: Any
    algorithms: tuple[str, ...]


def read(text: str, asked: Sequence[str] = ()) -> JwtKey:
    """Return the key of this text, for the algorithms asked for or its kind's own. Raises ValueError, never with the key."""
    key, possible, default = _public(text) if _is_armoured(text) else _secret(text, asked)
    wrong = [name for name in asked if name not in possible]
    if wrong:
        raise ValueError(f"JWT_ALGORITHMS: {', '.join(wrong)} cannot be used with this key; possible are {', '.join(possible)}")
    return JwtKey(key, tuple(asked) or (default,))


def _is_armoured(text: str) -> bool:
    return "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-", "{"))


def _public(text: str) -> tuple[Any, Sequence[str], str]:
    try:
        key = load_pem_public_key(text.encode())
    except Exception as error:  # cryptography raises several kinds, whose words may quote the key
        raise ValueError("JWT_KEY: not a PEM public key (-----BEGIN PUBLIC KEY-----)") from error
    if isinstance(key, RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError("JWT_KEY: an RSA key needs 2048 bits or more")
        return key, _RSA, "RS256"
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return key, ("EdDSA",), "EdDSA"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key, (_CURVES[key.curve.name],), _CURVES[key.curve.name]
    raise ValueError("JWT_KEY: must be RSA, EC (P-256, P-384, P-521), Ed25519 or Ed448")


def _secret(text: str, asked: Sequence[str]) -> tuple[Any, Sequence[str], str]:
    secret = text.encode()
    needed = max((_SECRETS.get(name, 0) for name in asked), default=_SECRETS["HS256"])
    if len(secret) < max(needed, _SECRETS["HS256"]):
        raise ValueError(f"JWT_KEY: a shared secret needs {max(needed, 32)} bytes or more; `openssl rand -hex 32` makes 64")
    return secret, tuple(_SECRETS), "HS256"
