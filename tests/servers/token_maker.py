"""Makes session tokens with an issuer's real key, well or badly formed as a test asks."""

import base64
import functools
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PARTY: Final = "https://app.example.test"
ABSENT: Final = object()

SigningKey = rsa.RSAPrivateKey | Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@functools.cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """The same key for the same number within a test run, since making one is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _encoded(part: Mapping[str, Any] | bytes | str) -> str:
    if isinstance(part, Mapping):
        part = json.dumps(part, separators=(",", ":"))
    return base64url(part.encode() if isinstance(part, str) else part)


def _without_absent(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not ABSENT}


class TokenMaker:
    """An issuer's signing hand. An override of ABSENT leaves the header parameter or claim out."""

    def __init__(self, issuer: str, key: SigningKey, kid: str, party: str | None = PARTY) -> None:
        self.issuer = issuer
        self.key = key
        self.kid = kid
        self.party = party
        self.algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"

    @property
    def public_pem(self) -> str:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def public_jwk(self) -> dict[str, str]:
        jwk = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self.key, Ed25519PrivateKey):
            x = self.key.public_key().public_bytes_raw()
            return {**jwk, "kty": "OKP", "crv": "Ed25519", "x": base64url(x)}
        numbers = self.key.public_key().public_numbers()
        n, e = (
            base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for value in (numbers.n, numbers.e)
        )
        return {**jwk, "kty": "RSA", "n": n, "e": e}

    def header(self, **overrides: Any) -> dict[str, Any]:
        return _without_absent({"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **overrides})

    def claims(self, sub: Any = "user_ada", **overrides: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "azp": self.party if self.party is not None else ABSENT,
            "exp": now + 60,
            "fva": [5, -1],
            "iat": now,
            "iss": self.issuer,
            "nbf": now - 10,
            "sid": "sess_2b7QmZrEoN",
            "sts": "active",
            "sub": sub,
            "v": 2,
        }
        return _without_absent({**claims, **overrides})

    def sign(self, header: Mapping[str, Any] | bytes | str, payload: Mapping[str, Any] | bytes | str) -> str:
        """Signs whatever it is given, whatever the header says about it."""
        signing_input = f"{_encoded(header)}.{_encoded(payload)}"
        if isinstance(self.key, Ed25519PrivateKey):
            signature = self.key.sign(signing_input.encode())
        else:
            signature = self.key.sign(signing_input.encode(), padding.PKCS1v15(), SHA256())
        return f"{signing_input}.{base64url(signature)}"

    def token(self, sub: Any = "user_ada", **overrides: Any) -> str:
        return self.sign(self.header(), self.claims(sub, **overrides))

    def with_header(self, **overrides: Any) -> str:
        return self.sign(self.header(**overrides), self.claims())
