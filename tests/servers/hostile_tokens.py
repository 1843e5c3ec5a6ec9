"""Tokens that must never authenticate anybody, by the shape of what is wrong with them.

Where the fault is not the signature itself the token carries a good one, so that the fault is the reason.
"""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.servers.token_maker import ABSENT, TokenMaker, base64url, rsa_key

ATTACKER_KEY = 900


def _hmac_signed(maker: TokenMaker, secret: bytes, algorithm: str = "HS256") -> str:
    """Signed by HMAC with something public, for a verifier that lets the token choose the algorithm."""
    header = base64url(json.dumps(maker.header(alg=algorithm)).encode())
    payload = base64url(json.dumps(maker.claims()).encode())
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[algorithm]
    return f"{header}.{payload}.{base64url(hmac.digest(secret, f'{header}.{payload}'.encode(), digest))}"


def _other_spelling(token: str) -> str:
    """The same bytes in another base64url text: the last character's spare bits are set."""
    head, _, signature = token.rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature[-1]) | 1]
    assert last != signature[-1]
    return f"{head}.{signature[:-1]}{last}"


def _twice(body: dict[str, Any], name: str, value: object) -> str:
    """JSON text in which `name` stands twice, the second time with `value`."""
    return json.dumps(body)[:-1] + f", {json.dumps(name)}: {json.dumps(value)}}}"


def hostile_tokens(maker: TokenMaker) -> dict[str, str]:
    """At least 60 shapes for the issuer behind `maker`, each to be refused as Bearer and as cookie."""
    return {
        **_malformed(maker),
        **_wrong_algorithms(maker),
        **_wrong_headers(maker),
        **_wrong_times(maker),
        **_wrong_claims(maker),
        **_other_kinds(maker),
    }


def hostile_cookie_tokens(maker: TokenMaker) -> dict[str, str]:
    """Good as Bearer, refused from a cookie while authorized parties are listed."""
    return {"cookie without azp": maker.token(azp=ABSENT)}


def _malformed(maker: TokenMaker) -> dict[str, str]:
    good = maker.token()
    header, payload, signature = good.split(".")
    other_payload = maker.token("user_eve").split(".")[1]
    claims = maker.claims()
    return {
        "empty": "",
        "only dots": "..",
        "a word": "token",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.{signature}",
        "five parts, as if encrypted": f"{good}.{signature}.{signature}",
        "empty header": f".{payload}.{signature}",
        "empty payload": f"{header}..{signature}",
        "empty signature": f"{header}.{payload}.",
        "leading space": " " + good,
        "trailing space": good + " ",
        "trailing newline": good + "\n",
        "newline inside": f"{header}\n.{payload}.{signature}",
        "NUL inside": f"{header}.{payload}\x00.{signature}",
        "Bearer twice": "Bearer " + good,
        "two tokens in one": f"{good},{good}",
        "quoted": f'"{good}"',
        "padded header": f"{header}==.{payload}.{signature}",
        "padded signature": f"{good}==",
        "standard base64 signature": f"{header}.{payload}.++//{signature[4:]}",
        "signature spelled otherwise": _other_spelling(good),
        "impossible base64 length": f"{header}.{payload}.{signature[: -(len(signature) % 4) or None]}A",
        "letters outside ASCII": f"{header}.{payload}.{signature[:-1]}Ａ",
        "percent-encoded dots": good.replace(".", "%2E"),
        "truncated signature": good[:-8],
        "truncated in the payload": good[: len(header) + len(payload) // 2],
        "signature of zeros": f"{header}.{payload}.{base64url(bytes(64))}",
        "one changed bit": f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}",
        "payload exchanged": f"{header}.{other_payload}.{signature}",
        "8 KiB and more": maker.token(padding="x" * 9000),
        "very long": "A" * 200_000,
        "header not JSON": maker.sign("{alg: RS256}", claims),
        "header an array": maker.sign("[]", claims),
        "header null": maker.sign("null", claims),
        "header with trailing data": maker.sign(json.dumps(maker.header()) + "{}", claims),
        "header alg twice": maker.sign(_twice(maker.header(alg="none"), "alg", maker.algorithm), claims),
        "header kid twice": maker.sign(_twice(maker.header(), "kid", maker.kid), claims),
        "payload not JSON": maker.sign(maker.header(), "sub=user_ada"),
        "payload a string": maker.sign(maker.header(), '"user_ada"'),
        "payload an array": maker.sign(maker.header(), json.dumps([claims])),
        "payload null": maker.sign(maker.header(), "null"),
        "payload not UTF-8": maker.sign(maker.header(), json.dumps(claims).encode()[:-1] + b',"x":"\xff"}'),
        "payload with byte order mark": maker.sign(
            maker.header(), b"\xef\xbb\xbf" + json.dumps(claims).encode()
        ),
        "payload with NUL after it": maker.sign(maker.header(), json.dumps(claims) + "\x00"),
        "payload sub twice": maker.sign(maker.header(), _twice(claims, "sub", "user_eve")),
        "payload exp twice": maker.sign(maker.header(), _twice(claims, "exp", claims["exp"] + 9999)),
        "payload key twice deep inside": maker.sign(
            maker.header(), json.dumps(claims)[:-1] + ', "x": {"y": [{"z": 1, "z": 2}]}}'
        ),
        "payload nested without end": maker.sign(maker.header(), '{"x":' * 900),
        "payload nested deeply": maker.sign(maker.header(), "[" * 2800 + "]" * 2800),
        "payload with a number of 5,000 digits": maker.sign(
            maker.header(), json.dumps(claims)[:-1] + ', "x": ' + "9" * 5000 + "}"
        ),
    }


def _wrong_algorithms(maker: TokenMaker) -> dict[str, str]:
    unsigned = {
        f"alg {name}": maker.sign(maker.header(alg=name), maker.claims()).rpartition(".")[0] + "."
        for name in ("none", "None", "NONE", "nOnE")
    }
    other = "EdDSA" if maker.algorithm == "RS256" else "RS256"
    jwk = maker.public_jwk
    return {
        **unsigned,
        "alg none with a signature": maker.with_header(alg="none"),
        "alg missing": maker.with_header(alg=ABSENT),
        "alg null": maker.with_header(alg=None),
        "alg empty": maker.with_header(alg=""),
        "alg a number": maker.with_header(alg=256),
        "alg a list": maker.with_header(alg=[maker.algorithm]),
        "alg in lower case": maker.with_header(alg=maker.algorithm.lower()),
        "alg with a space": maker.with_header(alg=maker.algorithm + " "),
        "alg unknown": maker.with_header(alg="XX256"),
        "alg of another key type": maker.with_header(alg=other),
        "alg ES256": maker.with_header(alg="ES256"),
        "alg ES256K": maker.with_header(alg="ES256K"),
        "alg PS256": maker.with_header(alg="PS256"),
        "alg RS512": maker.with_header(alg="RS512"),
        "HS256 with the public key in PEM": _hmac_signed(maker, maker.public_pem.encode()),
        "HS256 with the public key in PEM, stripped": _hmac_signed(maker, maker.public_pem.strip().encode()),
        "HS256 with the public key as JWK": _hmac_signed(maker, json.dumps(jwk).encode()),
        "HS256 with the bare public key": _hmac_signed(
            maker, base64.urlsafe_b64decode(jwk.get("x", jwk.get("n", "")) + "==")
        ),
        "HS384 with the public key": _hmac_signed(maker, maker.public_pem.encode(), "HS384"),
        "HS512 with an empty secret": _hmac_signed(maker, b"", "HS512"),
    }


def _wrong_headers(maker: TokenMaker) -> dict[str, str]:
    # The attacker signs by the algorithm of the issuer, so that only the key tells them apart.
    foreign = rsa_key(ATTACKER_KEY) if maker.algorithm == "RS256" else Ed25519PrivateKey.generate()
    attacker = TokenMaker(maker.issuer, foreign, "attacker", maker.party)
    impostor = TokenMaker(maker.issuer, foreign, maker.kid, maker.party)
    somewhere = "https://keys.example.test/jwks.json"
    return {
        "signed by somebody else": attacker.token(),
        "signed by somebody else under our key id": impostor.token(),
        "jwk of the signer": attacker.with_header(jwk=attacker.public_jwk),
        "jwk of the signer under our key id": impostor.with_header(jwk=impostor.public_jwk),
        "jwk of our own": maker.with_header(jwk=maker.public_jwk),
        "jku": maker.with_header(jku=somewhere),
        "jku null": maker.with_header(jku=None),
        "jku of the signer": attacker.with_header(jku=somewhere),
        "x5u": maker.with_header(x5u=somewhere),
        "x5c": maker.with_header(x5c=["MIIB"]),
        "crit unknown": maker.with_header(crit=["exp"], exp=1),
        "crit empty": maker.with_header(crit=[]),
        "crit of a known extension": maker.with_header(crit=["b64"], b64=True),
        "b64 false": maker.with_header(b64=False, crit=["b64"]),
        "zip": maker.with_header(zip="DEF"),
        "enc": maker.with_header(enc="A256GCM"),
        "typ of another kind": maker.with_header(typ="dpop+jwt"),
        "typ a number": maker.with_header(typ=1),
        "typ null": maker.with_header(typ=None),
        "cty JWT": maker.with_header(cty="JWT"),
        "kid missing": maker.with_header(kid=ABSENT),
        "kid null": maker.with_header(kid=None),
        "kid empty": maker.with_header(kid=""),
        "kid a number": maker.with_header(kid=1),
        "kid a list": maker.with_header(kid=[maker.kid]),
        "kid of 129 characters": maker.with_header(kid="k" * 129),
        "kid unknown": attacker.with_header(kid="ins_unknown"),
        "kid a path": attacker.with_header(kid="../../../../dev/null"),
        "kid an address": attacker.with_header(kid=somewhere),
        "kid with SQL in it": attacker.with_header(kid="x' UNION SELECT 'key"),
        "kid with a NUL": attacker.with_header(kid=maker.kid + "\x00"),
    }


def _wrong_times(maker: TokenMaker) -> dict[str, str]:
    now = int(time.time())
    payload = json.dumps(maker.claims(exp=ABSENT))[:-1]
    return {
        "exp missing": maker.token(exp=ABSENT),
        "exp null": maker.token(exp=None),
        "exp a string": maker.token(exp=str(now + 60)),
        "exp true": maker.token(exp=True),
        "exp a list": maker.token(exp=[now + 60]),
        "exp past": maker.token(exp=now - 6),
        "exp long past": maker.token(iat=1000, nbf=1000, exp=2000),
        "exp zero": maker.token(exp=0),
        "exp negative": maker.token(exp=-1),
        "exp NaN": maker.sign(maker.header(), payload + ', "exp": NaN}'),
        "exp Infinity": maker.sign(maker.header(), payload + ', "exp": Infinity}'),
        "exp 1e999": maker.sign(maker.header(), payload + ', "exp": 1e999}'),
        "exp in milliseconds": maker.token(exp=(now + 60) * 1000),
        "exp before iat": maker.token(iat=now, exp=now - 2),
        "nbf future": maker.token(nbf=now + 600, exp=now + 900),
        "nbf a string": maker.token(nbf=str(now)),
        "nbf null": maker.token(nbf=None),
        "nbf false": maker.token(nbf=False),
        "iat missing": maker.token(iat=ABSENT),
        "iat future": maker.token(iat=now + 600, exp=now + 900),
        "iat a string": maker.token(iat=str(now)),
        "iat true": maker.token(iat=True),
        "iat negative": maker.token(iat=-5),
    }


def _wrong_claims(maker: TokenMaker) -> dict[str, str]:
    issuers = {
        "missing": ABSENT,
        "null": None,
        "empty": "",
        "a list": [maker.issuer],
        "with a slash": maker.issuer + "/",
        "in capitals": maker.issuer.upper(),
        "with a path": maker.issuer + "/other",
        "as a prefix": maker.issuer + ".example.test",
        "with a space": " " + maker.issuer,
        "of another scheme": "ftp" + maker.issuer.removeprefix("http"),
        "of somebody else": "https://issuer.example.test",
    }
    subjects = {
        "missing": ABSENT,
        "null": None,
        "empty": "",
        "a number": 7,
        "true": True,
        "a list": ["user_ada"],
        "an object": {"id": "user_ada"},
        "with a space": "user ada",
        "with a newline": "user_ada\n",
        "with a NUL": "user_ada\x00",
        "with a slash": "../user_ada",
        "with a quote": "user_ada'--",
        "with an at sign": "ada@example.test",
        "with a look-alike letter": "user_аda",
        "with a zero-width character": "user_ada\u200b",
        "with half a surrogate": "user_\ud800",
        "of 65 characters": "u" * 65,
    }
    sessions = {"missing": ABSENT, "null": None, "empty": "", "a number": 1, "with a space": "sess 1"}
    states = {"pending": "pending", "in capitals": "ACTIVE", "unknown": "ended", "null": None, "true": True}
    audiences = {
        "a string": "https://api.example.test",
        "a list": ["https://api.example.test"],
        "the issuer": maker.issuer,
        "null": None,
        "empty": "",
        "an empty list": [],
        "a number": 0,
    }
    party = maker.party or "https://app.example.test"
    parties = {
        "of another site": "https://evil.example.test",
        "null": None,
        "empty": "",
        "a list": [party],
        "with a slash": party + "/",
        "in capitals": party.upper(),
        "as a prefix": party + ".evil.example.test",
        "without a scheme": party.removeprefix("https://"),
    }
    actors = {
        "a string": "user_eve",
        "null": None,
        "empty": {},
        "of a number": {"sub": 1},
        "with a newline": {"sub": "user\neve"},
        "too long": {"sub": "u" * 129},
    }
    return {
        **{f"iss {shape}": maker.token(iss=value) for shape, value in issuers.items()},
        **{f"sub {shape}": maker.token(value) for shape, value in subjects.items()},
        **{f"sid {shape}": maker.token(sid=value) for shape, value in sessions.items()},
        **{f"sts {shape}": maker.token(sts=value) for shape, value in states.items()},
        **{f"aud {shape}": maker.token(aud=value) for shape, value in audiences.items()},
        **{f"azp {shape}": maker.token(azp=value) for shape, value in parties.items()},
        **{f"act {shape}": maker.token(act=value) for shape, value in actors.items()},
    }


def _other_kinds(maker: TokenMaker) -> dict[str, str]:
    now = int(time.time())
    chat = {"user_id": "user_ada", "iat": now, "exp": now + 3600}
    good = maker.token()
    header, payload, signature = good.split(".")
    return {
        "a chat token": jwt.encode(chat, "chat-secret-of-thirty-two-bytes-or-more", algorithm="HS256"),
        "a chat token with our issuer": jwt.encode(
            {**maker.claims(), **chat}, "chat-secret-of-thirty-two-bytes-or-more", algorithm="HS256"
        ),
        "a token made from a template, without a session": maker.token(sid=ABSENT, azp=ABSENT, sts=ABSENT),
        "a machine's token": maker.token("mch_2b7", sid=ABSENT, azp=ABSENT, sts=ABSENT),
        "an invite token": "ghi_" + base64url(bytes(range(32))) + "_a1b2c3",
        "an API key": "ghk_" + base64url(bytes(range(32))),
        "a provider's secret key": "sk_test_" + base64url(bytes(range(24))),
        "a bare user id": "user_ada",
        "a token within a token": maker.sign(maker.header(), json.dumps(good)),
        "JWS in JSON": json.dumps({"protected": header, "payload": payload, "signature": signature}),
    }
