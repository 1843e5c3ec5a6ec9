"""What races are made of: calls that are begun together, and how they ended."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeAlias

from tests.races.pair import at_once
from tests.world import Community, Hub, Person, Reply, World

Call: TypeAlias = Callable[[], Awaitable[Reply]]


async def insist(call: Call) -> Reply:
    """What comes of it in the end: 503 says that nothing was done, and may be answered by asking again."""
    while (reply := await call()).status == 503:
        assert reply.error == "unavailable" and reply.headers["retry-after"]
        await asyncio.sleep(0.05)
    return reply


async def race(calls: Iterable[Call]) -> list[Reply]:
    """All begun before any is waited for, each until it is answered."""
    return await at_once([insist(call) for call in calls])


async def play(rounds: int, one: Callable[[int], Awaitable[None]]) -> None:
    """Rounds of a race, ten at a time: all they share is the machine."""
    for first in range(0, rounds, 10):
        await at_once(one(number) for number in range(first, min(first + 10, rounds)))


def ends(replies: Iterable[Reply]) -> Counter[str]:
    """How many ended how, by code."""
    return Counter(reply.error or "done" for reply in replies)


def accepts(people: Iterable[Person], surface: str, token: str) -> list[Call]:
    return [partial(person.post, f"{surface}/invites/{token}/accept", {}) for person in people]


async def invited(owner: Person, space: Community | Hub, email: str | None = None, **more: object) -> str:
    """The token of a new invite."""
    if isinstance(space, Hub):
        invitee = {} if email is None else {"invitee": {"email": email}}
        return (await owner.post(f"{space.url}/invites", {**invitee, **more})).data(201)["token"]
    return (await owner.post(f"{space.url}/invite", {"email": email, **more})).ok(201)["token"]


async def audited(world: World, space: str, action: str) -> int:
    async with world.db.reading() as read:
        return await read.value(
            "SELECT count(*) FROM audit WHERE space_id = $1::uuid AND action = $2", space, action
        )
