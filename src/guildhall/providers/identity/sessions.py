"""The embedded issuer: session tokens in the shape Clerk gives them, signed by keys of our own."""

import base64
import hashlib
import json
from collections.abc import Sequence

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guildhall.providers.identity import SUBJECT, Issuer, PublicKey
from guildhall.providers.identity.keysources import OwnKeys, public_key


class SessionIssuer:
    """Signs with the key of the first seed; tokens under the key of any seed verify.

    A seed is 32 bytes derived from an instance secret, so every machine with the same secret signs alike and
    no key is stored. `issuer` is the name that tokens and accounts carry.
    """

    def __init__(self, issuer: str, seeds: Sequence[bytes]) -> None:
        if not seeds or any(len(seed) != 32 for seed in seeds):
            raise ValueError("a seed has 32 bytes, and there is at least one")
        self.issuer = issuer
        signing = [Ed25519PrivateKey.from_private_bytes(seed) for seed in dict.fromkeys(seeds)]
        self._signing_key = signing[0]
        self._public: dict[str, PublicKey] = {}
        self._jwks: list[dict[str, str]] = []
        for key in signing:
            x = _base64url(key.public_key().public_bytes_raw())
            kid = _thumbprint(x)
            self._public[kid] = public_key(key.public_key(), kid)
            self._jwks.append(
                {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}
            )
        self.kid = next(iter(self._public))

    def issue(
        self,
        subject: str,
        session_id: str,
        *,
        now: float,
        lifetime_s: int,
        authorized_party: str | None = None,
        actor: str | None = None,
    ) -> str:
        """A token valid from `now`, in Unix seconds. Raises ValueError for a subject it would not verify."""
        if SUBJECT.fullmatch(subject) is None or SUBJECT.fullmatch(session_id) is None:
            raise ValueError("subject and session are 1 to 64 letters, digits, - or _")
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": subject,
            "sid": session_id,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + lifetime_s,
        }
        if authorized_party is not None:
            claims["azp"] = authorized_party
        if actor is not None:
            claims["act"] = {"sub": actor}
        return jwt.encode(claims, self._signing_key, algorithm="EdDSA", headers={"kid": self.kid})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The document others verify our tokens by: the current key first, then those being retired."""
        return {"keys": [dict(key) for key in self._jwks]}

    def trusted(self, authorized_parties: tuple[str, ...] = ()) -> Issuer:
        """How the Verifier of this same service trusts it."""
        return Issuer(
            issuer=self.issuer,
            keys=OwnKeys(list(self._public.values())),
            algorithms=frozenset({"EdDSA"}),
            authorized_parties=authorized_parties,
        )


def _thumbprint(x: str) -> str:
    """RFC 7638: the hash of the key's required members, in order and without spaces."""
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    return _base64url(hashlib.sha256(members.encode()).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
