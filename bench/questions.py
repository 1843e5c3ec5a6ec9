"""What is asked: the same requests to each server, spread over the same people and communities."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from bench.seed import Member, Seeded

FEED, POST, COMMUNITY, PROFILE, CREATE = "feed", "post", "community", "profile", "create"
DIRECTORY = "directory"
HUBS, SUMMARY, DETAIL = "hubs of a person", "hub summary", "hub detail"
# What is measured on the other surface, beside the floor alone.
OF_HUBS = (HUBS, SUMMARY, DETAIL)
TEXT = "Somebody asked how this is done, and here is what worked for me. " * 4


def request(
    member: Member, path: str, body: object = None, method: str | None = None, etag: str | None = None
) -> bytes:
    """One request as a client of ours sends it."""
    content = b"" if body is None else msgspec.json.encode(body)
    lines = [
        f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1",
        "Host: localhost",
        "User-Agent: guildhall-bench",
        "Accept: application/json",
        f"Authorization: Bearer {member.token}",
        # For the floor, which reads no tokens.
        f"X-Asker: {member.user}",
    ]
    if etag is not None:
        lines.append(f"If-None-Match: {etag}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def feed_path(member: Member) -> str:
    return f"/api/posts?communityId={member.community}"


def directory_path(space: UUID) -> str:
    return f"/api/communities/{space}/members"


def questions(seeded: Seeded, seed: int = 1) -> dict[str, list[bytes]]:
    """The requests of each kind, by kind, in an order without rhythm. One of each for every asker."""
    chance = random.Random(seed)
    members = list(seeded.members)
    chance.shuffle(members)
    # Neighbours in one community, who may see each other's profiles.
    others: dict[UUID, list[Member]] = {}
    for member in members:
        others.setdefault(member.community, []).append(member)
    ways: dict[str, Callable[[Member], tuple[str, object]]] = {
        FEED: lambda member: (feed_path(member), None),
        POST: lambda member: (f"/api/posts/{chance.choice(seeded.posts[member.community])}", None),
        COMMUNITY: lambda member: (f"/api/communities/{member.community}", None),
        PROFILE: lambda member: (
            f"/api/members/{chance.choice(others[member.community]).user}/profile",
            None,
        ),
        CREATE: lambda member: (
            "/api/posts",
            {"communityId": str(member.community), "content": f"{TEXT} {member.user}"},
        ),
        HUBS: lambda _: ("/v1/hubs", None),
        SUMMARY: lambda member: (f"/v1/hubs/{member.hub}/summary", None),
        DETAIL: lambda member: (f"/v1/hubs/{member.hub}", None),
    }
    return {kind: [request(member, *way(member)) for member in members] for kind, way in ways.items()}


class Differs(Exception):
    """Two servers answered the same question differently, so their speeds must not be compared."""


def check_same(kind: str, answers: dict[str, bytes], ours: str) -> None:
    """Raises Differs unless every answer has, under our names, our values."""
    expected = msgspec.json.decode(answers[ours])
    for name, answer in answers.items():
        found = msgspec.json.decode(answer)
        for where, mine, theirs in _pairs(kind, expected, found):
            if not _same(mine, theirs):
                raise Differs(f"{name} answers {theirs!r} at {where}, where {ours} answers {mine!r}")


def _pairs(where: str, mine: Any, theirs: Any) -> Sequence[tuple[str, Any, Any]]:
    """What both have, leaf by leaf. Lists must be of one length; of objects, theirs may lack fields."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return [
            pair
            for key in theirs
            if key != "nextCursor"
            for pair in _pairs(f"{where}/{key}", mine.get(key, "nothing"), theirs[key])
        ]
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        return [
            pair
            for index, (one, other) in enumerate(zip(mine, theirs, strict=True))
            for pair in _pairs(f"{where}/{index}", one, other)
        ]
    return [(where, mine, theirs)]


def _same(mine: Any, theirs: Any) -> bool:
    if mine == theirs:
        return True
    # One writes six digits of a second always, another only those that count.
    try:
        return msgspec.convert(mine, datetime) == msgspec.convert(theirs, datetime)
    except msgspec.ValidationError:
        return False
