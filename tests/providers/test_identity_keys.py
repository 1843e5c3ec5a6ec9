"""Where keys come from, and what happens while the issuer is away, slow, or lying."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm

from guildhall.providers.identity import BadToken, Issuer, KeysUnavailable, clerk_issuer
from guildhall.providers.identity.keysources import Jwks, PinnedKey, read_jwks
from guildhall.providers.identity.verify import Verifier
from tests.providers.issuers import refusal
from tests.servers.clerk_server import ClerkServer, Fault, clerk_server
from tests.servers.token_maker import PARTY, TokenMaker, rsa_key

FAULTS: tuple[Fault, ...] = (
    "hang_up",
    "error",
    "busy",
    "lie",
    "lost",
    "shape",
    "redirect",
    "too_large",
    "compressed",
)


class Clock:
    """Monotonic seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _verifier(clerk: ClerkServer, clock: Clock, url: str | None = None) -> Verifier:
    keys = Jwks(url or clerk.jwks_url, clock=clock)
    trusted = Issuer(
        issuer=clerk.issuer, keys=keys, algorithms=frozenset({"RS256"}), authorized_parties=(PARTY,)
    )
    return Verifier([trusted])


def _unknown_key(clerk: ClerkServer, number: int) -> str:
    return TokenMaker(clerk.issuer, rsa_key(900), f"ins_unknown_{number}").token()


async def test_keys_are_fetched_once_for_everybody() -> None:
    async with clerk_server() as clerk:
        clerk.jwks_delay_s = 0.1
        verifier = _verifier(clerk, Clock())

        found = await asyncio.gather(
            *(verifier.verify(clerk.token(f"user_{n}"), from_cookie=False) for n in range(200))
        )

        assert len({identity.subject for identity in found}) == 200
        assert clerk.jwks_fetches == 1


async def test_unknown_keys_cause_at_most_one_fetch_in_thirty_seconds() -> None:
    async with clerk_server() as clerk:
        clock = Clock()
        verifier = _verifier(clerk, clock)
        await verifier.verify(clerk.token(), from_cookie=False)
        assert clerk.jwks_fetches == 1

        for period in range(1, 4):
            clock.now += 30
            attempts = [
                refusal(verifier.verify(_unknown_key(clerk, n), from_cookie=False)) for n in range(200)
            ]
            refused = await asyncio.gather(*attempts)
            assert {type(one) for one in refused} == {BadToken}
            clock.now += 29.9
            assert await refusal(verifier.verify(_unknown_key(clerk, 0), from_cookie=False))
            assert clerk.jwks_fetches == 1 + period


async def test_a_rotated_key_is_found_and_the_old_one_works_until_it_is_taken_back() -> None:
    async with clerk_server() as clerk:
        clock = Clock()
        verifier = _verifier(clerk, clock)
        old = clerk.maker
        await verifier.verify(old.token(), from_cookie=False)

        clerk.rotate()
        clock.now += 31
        assert await verifier.verify(clerk.token(), from_cookie=False)
        assert await verifier.verify(old.token("user_bo"), from_cookie=False)

        clerk.rotate(keep_old=False)
        clock.now += 31
        assert await verifier.verify(clerk.token(), from_cookie=False)
        assert await refusal(verifier.verify(old.token("user_eve"), from_cookie=False))


async def test_a_key_in_use_is_renewed_each_hour_and_nobody_waits_for_it() -> None:
    async with clerk_server() as clerk:
        clock = Clock()
        verifier = _verifier(clerk, clock)
        old = clerk.maker
        await verifier.verify(old.token(), from_cookie=False)
        clerk.rotate(keep_old=False)
        clerk.jwks_delay_s = 0.3
        clock.now += 3600

        started = time.perf_counter()
        assert await verifier.verify(old.token("user_bo"), from_cookie=False)
        assert time.perf_counter() - started < 0.25

        async with asyncio.timeout(5):
            while not await refusal(verifier.verify(old.token(f"user_{time.time_ns()}"), from_cookie=False)):
                await asyncio.sleep(0.02)
        assert clerk.jwks_fetches == 2
        await verifier.aclose()


@pytest.mark.parametrize("fault", FAULTS)
async def test_known_keys_outlive_a_broken_issuer(fault: Fault) -> None:
    async with clerk_server() as clerk:
        clock = Clock()
        verifier = _verifier(clerk, clock)
        await verifier.verify(clerk.token(), from_cookie=False)
        clerk.jwks_fault = fault

        for _ in range(3):
            clock.now += 5000
            assert await refusal(verifier.verify(_unknown_key(clerk, 1), from_cookie=False))
            assert await verifier.verify(clerk.token(f"user_{int(clock.now)}"), from_cookie=False)
        assert clerk.jwks_fetches >= 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_with_no_key_at_all_the_answer_is_unavailable_and_then_recovers(fault: Fault) -> None:
    async with clerk_server() as clerk:
        clock = Clock()
        verifier = _verifier(clerk, clock)
        clerk.jwks_fault = fault

        for _ in range(5):
            with pytest.raises(KeysUnavailable) as unavailable:
                await verifier.verify(clerk.token(), from_cookie=False)
            assert unavailable.value.status == 503
            # A busy issuer says when to come back, and is taken at its word.
            assert unavailable.value.retry_after_s == (77 if fault == "busy" else 30)
        assert clerk.jwks_fetches == 1

        clerk.jwks_fault = None
        clock.now += 77
        assert await verifier.verify(clerk.token(), from_cookie=False)


async def test_an_issuer_that_refuses_connections_is_unavailable() -> None:
    async with clerk_server() as clerk:
        probe = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = probe.sockets[0].getsockname()[1]
        probe.close()
        await probe.wait_closed()
        verifier = _verifier(clerk, Clock(), f"http://127.0.0.1:{port}/jwks.json")

        with pytest.raises(KeysUnavailable):
            await verifier.verify(clerk.token(), from_cookie=False)


async def test_a_hopeless_token_causes_no_fetch() -> None:
    async with clerk_server() as clerk:
        verifier = _verifier(clerk, Clock())
        for token in (
            "",
            clerk.token(exp=1),
            clerk.token(iss="https://x.test"),
            clerk.token(azp="https://x.test"),
        ):
            assert await refusal(verifier.verify(token, from_cookie=False))
        assert clerk.jwks_fetches == 0


async def test_a_request_that_goes_away_takes_the_fetch_from_nobody() -> None:
    async with clerk_server() as clerk:
        clerk.jwks_delay_s = 0.3
        verifier = _verifier(clerk, Clock())
        first = asyncio.create_task(verifier.verify(clerk.token(), from_cookie=False))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(verifier.verify(clerk.token("user_bo"), from_cookie=False))
        await asyncio.sleep(0)
        first.cancel()

        assert (await second).subject == "user_bo"
        assert clerk.jwks_fetches == 1
        with pytest.raises(asyncio.CancelledError):
            await first


@asynccontextmanager
async def _dripping() -> AsyncIterator[str]:
    """Sends a good beginning, then one byte each second, for as long as somebody listens."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
            while True:
                await asyncio.sleep(1)
                writer.write(b" ")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    finally:
        server.close()


async def test_an_issuer_that_never_finishes_its_answer_is_given_up_after_ten_seconds() -> None:
    async with clerk_server() as clerk, _dripping() as url:
        verifier = _verifier(clerk, Clock(), url)
        started = time.perf_counter()
        with pytest.raises(KeysUnavailable):
            await verifier.verify(clerk.token(), from_cookie=False)
        assert 9 < time.perf_counter() - started < 12


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


async def test_pinned_keys_need_no_network_and_may_be_two_during_an_exchange() -> None:
    async with clerk_server() as clerk:
        old = clerk.maker
        clerk.rotate()
        new = clerk.maker
        for pem in (
            old.public_pem + new.public_pem,
            f"\n{new.public_pem}\n\n{old.public_pem}\n",
            (new.public_pem + old.public_pem).replace("\n", "\\n"),
        ):
            verifier = Verifier([clerk_issuer(clerk.settings(pinned_key=pem))])
            for maker in (old, new):
                assert await verifier.verify(maker.token(), from_cookie=False)
            assert await refusal(verifier.verify(_unknown_key(clerk, 1), from_cookie=False))
        only_new = Verifier([clerk_issuer(clerk.settings(pinned_key=new.public_pem))])
        assert await refusal(only_new.verify(old.token(), from_cookie=False))
        assert clerk.jwks_fetches == 0


def test_what_is_no_public_key_cannot_be_pinned() -> None:
    private = rsa_key(0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    koblitz = ec.generate_private_key(ec.SECP256K1())
    for text in ("", "secret", private, _pem(rsa_key(0)) + "more", _pem(small), _pem(koblitz)):
        with pytest.raises(ValueError):
            PinnedKey(text)


async def test_an_elliptic_key_verifies_by_its_own_curve_only() -> None:
    keys = {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()),
    }
    maker = TokenMaker("https://issuer.test", rsa_key(0), "k")
    for algorithm, key in keys.items():
        trusted = Issuer(
            issuer="https://issuer.test",
            keys=PinnedKey(_pem(key)),
            algorithms=frozenset(keys),
            authorized_parties=(PARTY,),
        )
        verifier = Verifier([trusted])
        for other, signing in keys.items():
            token = jwt.encode(maker.claims(), signing, algorithm=other, headers={"kid": "k"})
            refused = await refusal(verifier.verify(token, from_cookie=False))
            assert (refused is None) == (other == algorithm)


def test_only_usable_signing_keys_are_read_from_a_document() -> None:
    rsa_jwk = TokenMaker("", rsa_key(0), "good").public_jwk
    ec_numbers = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True)
    small = TokenMaker("", rsa.generate_private_key(public_exponent=65537, key_size=1024), "small").public_jwk
    unusable: list[object] = [
        None,
        "key",
        [],
        {},
        {**rsa_jwk, "kid": 7},
        {**rsa_jwk, "kid": ""},
        {**rsa_jwk, "kid": "k" * 129},
        {**rsa_jwk, "kty": "oct", "k": "c2VjcmV0"},
        {**rsa_jwk, "kty": ["RSA"]},
        {**rsa_jwk, "use": "enc"},
        {**rsa_jwk, "key_ops": ["sign"]},
        {**rsa_jwk, "key_ops": "verify"},
        {**rsa_jwk, "alg": "HS256"},
        {**rsa_jwk, "alg": "ES256"},
        {**rsa_jwk, "alg": ["RS256"]},
        {**rsa_jwk, "d": "AQAB"},
        {**rsa_jwk, "n": 5},
        {**rsa_jwk, "n": "!"},
        {**rsa_jwk, "e": None},
        {key: value for key, value in rsa_jwk.items() if key != "n"},
        {**ec_numbers, "kid": "x", "y": "AAAA"},
        {"kty": "OKP", "crv": "Ed448", "x": "AAAA", "kid": "x"},
        small,
    ]
    document = {"keys": [*unusable, rsa_jwk, {**ec_numbers, "kid": "curve"}]}

    read = read_jwks(json.dumps(document).encode())

    assert [(key.kid, sorted(key.algorithms)) for key in read] == [("good", ["RS256"]), ("curve", ["ES384"])]
    for nothing in ({"keys": unusable}, {"keys": []}, {"keys": {}}, {}, [], None):
        with pytest.raises(ValueError):
            read_jwks(json.dumps(nothing).encode())
    for text in (b"", b"{", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError):
            read_jwks(text)


def test_keys_are_fetched_only_over_tls_or_on_this_machine() -> None:
    for url in (
        "http://issuer.example.test/jwks.json",
        "http://127.0.0.1.example.test/",
        "ftp://issuer.example.test/",
        "https://user:word@issuer.example.test/",
        "https:///jwks.json",
        "jwks.json",
        "",
    ):
        with pytest.raises(ValueError):
            Jwks(url)
    for url in ("https://issuer.example.test/jwks.json", "http://localhost:3002/", "http://[::1]:3002/"):
        Jwks(url)
