"""The key that the panel signs its JWTs with, and the algorithms it is for: never those of another kind of key.

| key | algorithms | without a setting |
|---|---|---|
| RSA, 2048 bits or more | RS256 RS384 RS512 PS256 PS384 PS512 | RS256 |
| EC P-256, P-384, P-521 | ES256, ES384, ES512 | the curve's |
| Ed25519, Ed448 | EdDSA | EdDSA |
| shared secret of 32, 48, 64 bytes | HS256, HS384, HS512 | HS256 |

A public key whose text were taken for a shared secret would let everybody sign (algorithm confusion).
"""

import base64
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_LABEL = re.compile(r"(BEGIN|END) [A-Z0-9 ]*(KEY|CERTIFICATE)")
_SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}


class JwtKey(NamedTuple):
    """A key, and the algorithms that a JWT may name with it."""

    key: Any
    algorithms: tuple[str, ...]


def read(text: str, asked: Sequence[str] = ()) -> JwtKey:
    """Return the key of this text, for the algorithms asked for or its kind's own. Raises ValueError, never with the key."""
    text = text.strip()
    key, possible, default = _public(text) if _is_armoured(text) else _secret(text, asked)
    wrong = [name for name in asked if name not in possible]
    if wrong:
        raise ValueError(f"JWT_ALGORITHMS: {', '.join(wrong)} cannot be used with this key; possible are {', '.join(possible)}")
    return JwtKey(key, tuple(asked) or (default,))


def _is_armoured(text: str) -> bool:
    return "-----BEGIN" in text or text.startswith(("ssh-", "ecdsa-", "{"))


def _refuse_key_material(text: str) -> None:
    """Raise ValueError for a text that is no shared secret but a key, as others write one: everybody may know it."""
    lines = [line for line in text.replace("\\n", "\n").splitlines() if not _LABEL.fullmatch(line.strip(" -"))]
    if text.startswith(("{", "[")) or len(lines) < len(text.splitlines()) or _is_der("".join(lines)):
        raise ValueError(
            "JWT_KEY: this is a key, but not in PEM: give it with its lines -----BEGIN PUBLIC KEY----- and"
            " -----END PUBLIC KEY-----, and its base64 between them"
        )


def _is_der(text: str) -> bool:
    """Return whether this is base64 of an ASN.1 sequence that is as long as it says: a key or a certificate."""
    letters = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        octets = base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except ValueError:
        return False
    if octets[:1] != b"\x30" or len(octets) < 4:
        return False
    sized = octets[1] & 0x7F if octets[1] & 0x80 else 0
    length = int.from_bytes(octets[2 : 2 + sized], "big") if sized else octets[1]
    return len(octets) == 2 + sized + length


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
    _refuse_key_material(text)
    secret = text.encode()
    needed = max((_SECRETS.get(name, 0) for name in asked), default=_SECRETS["HS256"])
    if len(secret) < max(needed, _SECRETS["HS256"]):
        raise ValueError(f"JWT_KEY: a shared secret needs {max(needed, 32)} bytes or more; `openssl rand -hex 32` makes 64")
    return secret, tuple(_SECRETS), "HS256"
