"""The embedded issuer: keys from the instance secret, tokens others can verify, rotation."""

import base64
import hashlib
import json
import time

import jwt
import pytest

from guildhall.keys import Keys
from guildhall.providers.identity.keysources import read_jwks
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.providers.identity.verify import Verifier
from tests.providers.issuers import EMBEDDED_ISSUER, refusal, seeds
from tests.servers.token_maker import PARTY


async def test_a_session_token_is_verified_by_every_machine_with_the_same_secret() -> None:
    one, other = (SessionIssuer(EMBEDDED_ISSUER, seeds(b"a")) for _ in range(2))
    now = time.time()
    token = one.issue(
        "user_ada", "sess_1", now=now, lifetime_s=300, authorized_party=PARTY, actor="user_support"
    )

    identity = await Verifier([other.trusted((PARTY,))]).verify(token, from_cookie=True)

    assert (identity.subject, identity.session_id, identity.actor) == ("user_ada", "sess_1", "user_support")
    assert (identity.issued_at, identity.expires_at) == (int(now), int(now) + 300)
    assert one.jwks() == other.jwks()


async def test_the_published_document_verifies_our_tokens_with_any_library() -> None:
    sessions = SessionIssuer(EMBEDDED_ISSUER, seeds(b"a", b"b"))
    token = sessions.issue("user_ada", "sess_1", now=time.time(), lifetime_s=60)
    document = json.loads(json.dumps(sessions.jwks()))

    keys = jwt.PyJWKSet.from_dict(document)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["EdDSA"], issuer=EMBEDDED_ISSUER)

    assert sorted(claims) == ["exp", "iat", "iss", "nbf", "sid", "sub"]
    assert [entry["kid"] for entry in document["keys"]] == [
        key.kid for key in read_jwks(json.dumps(document).encode())
    ]
    assert all("d" not in entry for entry in document["keys"])


def test_a_key_is_named_by_its_thumbprint() -> None:
    entry = SessionIssuer(EMBEDDED_ISSUER, seeds(b"a")).jwks()["keys"][0]

    text = f'{{"crv":"Ed25519","kty":"OKP","x":"{entry["x"]}"}}'
    digest = hashlib.sha256(text.encode()).digest()
    assert entry["kid"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def test_rotation_signs_with_the_new_key_and_honours_the_old_until_it_goes() -> None:
    before = SessionIssuer(EMBEDDED_ISSUER, seeds(b"a"))
    during = SessionIssuer(EMBEDDED_ISSUER, seeds(b"b", b"a"))
    after = SessionIssuer(EMBEDDED_ISSUER, seeds(b"b"))
    old = before.issue("user_ada", "sess_1", now=time.time(), lifetime_s=60)
    new = during.issue("user_ada", "sess_1", now=time.time(), lifetime_s=60)

    assert during.kid == after.kid != before.kid
    for token in (old, new):
        assert await Verifier([during.trusted()]).verify(token, from_cookie=False)
    assert await Verifier([after.trusted()]).verify(new, from_cookie=False)
    assert await refusal(Verifier([after.trusted()]).verify(old, from_cookie=False))
    assert await refusal(Verifier([before.trusted()]).verify(new, from_cookie=False))


async def test_another_purpose_or_another_secret_makes_another_key() -> None:
    sessions = SessionIssuer(EMBEDDED_ISSUER, seeds(b"a"))
    token = sessions.issue("user_ada", "sess_1", now=time.time(), lifetime_s=60)

    for foreign in (seeds(b"b"), Keys([b"a" * 32]).derive("invites")):
        verifier = Verifier([SessionIssuer(EMBEDDED_ISSUER, foreign).trusted()])
        assert await refusal(verifier.verify(token, from_cookie=False))


def test_what_would_not_verify_is_not_issued() -> None:
    sessions = SessionIssuer(EMBEDDED_ISSUER, seeds(b"a"))
    for subject, session in (("", "s"), ("ada@example.test", "s"), ("user_ada", ""), ("u" * 65, "s")):
        with pytest.raises(ValueError, match="letters"):
            sessions.issue(subject, session, now=time.time(), lifetime_s=60)
    for unusable in ([], [b"short"], [b"a" * 32, b""]):
        with pytest.raises(ValueError, match="seed"):
            SessionIssuer(EMBEDDED_ISSUER, unusable)
