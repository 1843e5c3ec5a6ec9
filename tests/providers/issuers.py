"""The issuers every promise about tokens is tried on: hosted by JWKS, hosted by a pinned key, embedded."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guildhall.keys import Keys
from guildhall.providers.identity import BadToken, Identity, clerk_issuer
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.providers.identity.verify import Verifier
from tests.servers.clerk_server import clerk_server
from tests.servers.token_maker import PARTY, TokenMaker

EMBEDDED_ISSUER = "https://guildhall.example.test"


@dataclass
class Bench:
    maker: TokenMaker
    verifier: Verifier


Opener = Callable[[], AbstractAsyncContextManager[Bench]]


def seeds(*secrets: bytes) -> list[bytes]:
    return Keys([secret * 32 for secret in secrets]).derive("sessions")


def maker_of(sessions: SessionIssuer, seed: bytes) -> TokenMaker:
    return TokenMaker(sessions.issuer, Ed25519PrivateKey.from_private_bytes(seed), sessions.kid)


@asynccontextmanager
async def embedded() -> AsyncIterator[Bench]:
    own = seeds(b"a")
    sessions = SessionIssuer(EMBEDDED_ISSUER, own)
    yield Bench(maker_of(sessions, own[0]), Verifier([sessions.trusted((PARTY,))]))


@asynccontextmanager
async def clerk_by_jwks() -> AsyncIterator[Bench]:
    async with clerk_server() as clerk:
        verifier = Verifier([clerk_issuer(clerk.settings())])
        yield Bench(clerk.maker, verifier)
        await verifier.aclose()


@asynccontextmanager
async def clerk_by_pinned_key() -> AsyncIterator[Bench]:
    async with clerk_server() as clerk:
        settings = clerk.settings(pinned_key=clerk.maker.public_pem)
        yield Bench(clerk.maker, Verifier([clerk_issuer(settings)]))
        assert clerk.jwks_fetches == 0


ISSUERS: dict[str, Opener] = {
    "embedded": embedded,
    "clerk by JWKS": clerk_by_jwks,
    "clerk by pinned key": clerk_by_pinned_key,
}


async def refusal(attempt: Awaitable[Identity]) -> BadToken | None:
    try:
        await attempt
    except BadToken as refused:
        return refused
    return None
