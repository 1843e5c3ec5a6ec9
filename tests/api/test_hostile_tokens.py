"""Tokens that authenticate nobody, sent over a socket as Bearer and as cookie, whoever issues good ones."""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guildhall.wiring import build_edge
from tests import cluster as clusters
from tests.servers.clerk_server import clerk_server
from tests.servers.door import Answer, Door, open_door
from tests.servers.hostile_tokens import hostile_tokens
from tests.servers.token_maker import ABSENT, PARTY, TokenMaker
from tests.world import World, open_world, settings_for

READ, WRITE = "/api/communities", "/api/users/sync"

# HTTP itself takes space off the end of a header, and refuses a request with these inside of one.
TRIMMED = {"trailing space"}
NOT_HTTP = {"trailing newline", "newline inside", "NUL inside"}
# Refused for the size of the headers, before anybody asks what is in them.
TOO_LARGE = {"very long"}


class Bench(NamedTuple):
    world: World
    door: Door
    maker: TokenMaker


@asynccontextmanager
async def _embedded(world: World, tmp_path: Path, app_url: str) -> AsyncIterator[Bench]:
    issuer = world.house.service.issuer
    assert issuer is not None
    key = Ed25519PrivateKey.from_private_bytes(world.house.service.keys.derive("sessions")[0])
    async with open_door(build_edge(world.house)) as door:
        yield Bench(world, door, TokenMaker(issuer.issuer, key, issuer.kid, party=None))


@asynccontextmanager
async def _clerk(world: World, tmp_path: Path, app_url: str) -> AsyncIterator[Bench]:
    async with clerk_server() as clerk:
        settings = settings_for(
            tmp_path,
            app_url,
            world.owner_url,
            IDENTITY="clerk",
            CLERK_ISSUER=clerk.issuer,
            CLERK_AUTHORIZED_PARTIES=PARTY,
        )
        async with open_world(settings) as other, open_door(build_edge(other.house)) as door:
            maker = clerk.maker
            yield Bench(other, door, TokenMaker(maker.issuer, maker.key, maker.kid, party=PARTY))


@pytest.fixture(params=[_embedded, _clerk])
async def bench(
    request: pytest.FixtureRequest, world: World, cluster: clusters.Cluster, tmp_path: Path
) -> AsyncIterator[Bench]:
    async with request.param(world, tmp_path, clusters.app_url(cluster, world.owner_url)) as opened:
        yield opened


def bearer(token: str) -> bytes:
    return b"Authorization: Bearer " + token.encode("utf-8", "surrogatepass")


def cookie(token: str) -> bytes:
    return b"Cookie: __session=" + token.encode("utf-8", "surrogatepass")


def alike(answer: Answer) -> Answer:
    """All of an answer but its request's id."""
    body = json.loads(answer.body) | {"requestId": ""}
    return answer._replace(headers={**answer.headers, "x-request-id": ""}, body=json.dumps(body).encode())


async def _subject(bench: Bench) -> str:
    """Somebody with an account and a session, so that only the token can be at fault."""
    mark = secrets.token_hex(6)
    async with bench.world.db.writing() as tx:
        await tx.run(
            "INSERT INTO users (id, issuer, display_name) VALUES ($1, $2, 'ada')",
            f"user_{mark}",
            bench.maker.issuer,
        )
        await tx.run(
            "INSERT INTO sessions (id, user_id, label, expires_at)"
            " VALUES ($1, $2, 'test', now() + interval '1 day') ON CONFLICT (id) DO UPDATE SET user_id = $2",
            bench.maker.claims()["sid"],
            f"user_{mark}",
        )
    return f"user_{mark}"


async def test_every_hostile_token_is_refused_alike_and_touches_nothing(bench: Bench) -> None:
    subject = await _subject(bench)
    good = bench.maker.token(subject)
    refused = alike(await bench.door.get(READ))
    assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="guildhall"')
    assert refused.headers["cache-control"] == "no-store"
    shapes = {shape: token for shape, token in hostile_tokens(bench.maker).items() if shape not in TRIMMED}
    assert len(shapes) >= 60

    calls = ((bench.door.get, READ, bearer), (bench.door.post, WRITE, cookie))
    for call, path, credential in calls:
        assert (await call(path, credential(good))).status == 200
        before = bench.world.db.trips
        for shape, token in shapes.items():
            answer = await call(path, credential(token))
            if shape in NOT_HTTP | TOO_LARGE:
                assert answer.status in (400, 401, 431), shape
            else:
                assert alike(answer) == refused, shape
        assert bench.world.db.trips == before


async def test_a_token_without_a_party_is_refused_from_a_cookie_where_parties_are_listed(
    bench: Bench,
) -> None:
    token = bench.maker.token(await _subject(bench), azp=ABSENT)

    by_cookie = await bench.door.get(READ, cookie(token))
    assert (await bench.door.get(READ, bearer(token))).status == 200
    # The service's own tokens name no party, and are kept from other sites by the cookie's own rules.
    assert by_cookie.status == (401 if bench.maker.party else 200)
    assert (await bench.door.get(READ, cookie(token))).status == by_cookie.status
