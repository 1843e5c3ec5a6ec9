"""People come and go while everybody reads everywhere: what a hub holds is told to nobody outside of it."""

import asyncio
import json
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from guildhall.db import Retryable, new_id
from guildhall.dreams import jobs as dreams
from guildhall.dreams.jobs import DreamAsked
from guildhall.errors import Unavailable
from tests.races.calls import insist
from tests.races.canaries import STILL, Den, Holder, Secret, Watch, furnish, new_word, now
from tests.races.pair import at_once
from tests.v1.listening import Listener, listening
from tests.v1.test_memories import at, push
from tests.world import Browser, Person, World

pytestmark = pytest.mark.xdist_group("races")

LONG = bool(os.environ.get("GUILDHALL_LONG"))
STEPS = 200 if LONG else 6
DENS = 4 if LONG else 3
PEOPLE = 5 if LONG else 3
READERS = 12 if LONG else 6

Asked: TypeAlias = tuple[str, str, Any, dict[str, str]]
Way: TypeAlias = Callable[["Play", Den], Asked]

QUERIES = ("plums", "compost turned", "greenhouse door", "canar", "speaker")


def get(path: str, *, header: bool = False) -> Way:
    """A path in which the names of a hub's things stand in braces; a header may name the hub as well."""
    return lambda play, den: ("GET", play.fill(path, den), None, at(den.hub) if header else {})


def post(path: str, body: Any = None, *, header: bool = False) -> Way:
    """As `get`; a body of text has such names as well."""

    def way(play: "Play", den: Den) -> Asked:
        filled = None if body is None else json.loads(play.fill(json.dumps(body), den))
        return "POST", play.fill(path, den), filled, at(den.hub) if header else {}

    return way


def patch(path: str, body: Any) -> Way:
    return lambda play, den: ("PATCH", play.fill(path, den), body, {})


def tool(name: str, **arguments: Any) -> Way:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call["params"] = {"name": name, "arguments": arguments}
    made = post("/mcp", call)

    def way(play: "Play", den: Den) -> Asked:
        method, path, body, _ = made(play, den)
        return method, path, body, {"Accept": "application/json, text/event-stream"}

    return way


def page(path: str) -> Way:
    return lambda play, den: ("GET", play.fill(path, den), None, {"Cookie": ""})


# What tells of content, and what should never: the second is only looked at for what it must not say.
WAYS: dict[str, Way] = {
    "recall": post("/v1/recall", {"query": "{query}", "limit": 50}),
    "recall here": post("/v1/recall", {"query": "{query}", "hub_ids": ["{hub}"], "include_archived": True}),
    "recall in a topic": post("/v1/recall", {"query": "{query}", "topic_id": "{topic}", "tags": ["plums"]}),
    "recall by its word": post("/v1/recall", {"query": "{word}"}, header=True),
    "recall from here": post(
        "/v1/recall", {"query": "{query}", "project_context": {"repo": "x"}}, header=True
    ),
    "ask": post("/v1/ask", {"query": "{query}"}),
    "search": get("/v1/memories/search?q={query}&limit=50"),
    "search in a topic": get("/v1/memories/search?q={query}&topic_id={topic}", header=True),
    "bar": get("/v1/bar/search?q={query}"),
    "bar for names": get("/v1/bar/search?q=den"),
    "list": get("/v1/memories?limit=50", header=True),
    "list most used": get("/v1/memories?limit=50&sort=relevant&hub_id={hub}"),
    "list a topic": get("/v1/memories?topic_id={topic}&hub_id={hub}"),
    "memory": get("/v1/memories/{memory}"),
    "related": get("/v1/memories/{memory}/related"),
    "versions": get("/v1/memories/{first}/versions"),
    "download": get("/v1/memories/{file}/attachments/{attachment}/download"),
    "topics": get("/v1/topics?hub_id={hub}"),
    "topics here": get("/v1/topics", header=True),
    "archived topics": get("/v1/topics/archived?hub_id={hub}"),
    "topic": get("/v1/topics/{topic}"),
    "memories of a topic": get("/v1/topics/{topic}/memories"),
    "dreams": get("/v1/dreams"),
    "dreams here": get("/v1/dreams?hub_id={hub}"),
    "dream": get("/v1/dreams/{run}"),
    "dream report": get("/v1/dreams/report", header=True),
    "notifications": get("/v1/notifications?limit=200"),
    "notifications here": get("/v1/notifications?hub={hub}&status=pending"),
    "hubs": get("/v1/hubs"),
    "hub": get("/v1/hubs/{hub}"),
    "hub by its slug": get("/v1/hubs/{slug}"),
    "summary": get("/v1/hubs/{hub}/summary"),
    "me": get("/v1/auth/me"),
    "agents' recall": tool("recall", query="{query}", limit=50),
    "agents' recall here": tool("recall", query="{query}", hubs=["{hub}"]),
    "agents' list": tool("list", hub="{hub}"),
    "agents' get": tool("get", id="{memory}"),
    "agents' topics": tool("topics", hub="{hub}"),
    "agents' hubs": tool("hubs"),
    "page of a hub": page("/h/{hub}"),
    "page of a search": page("/h/{hub}?q={query}"),
    "page of a memory": page("/h/{hub}/m/{memory}"),
    "page of topics": page("/h/{hub}/topics"),
    "page of dreams": page("/h/{hub}/dreams"),
    "page of members": page("/h/{hub}/members"),
    "page of the inbox": page("/inbox"),
}
QUIET: dict[str, Way] = {
    "notifications that are over": get("/v1/notifications?status=resolved&limit=200"),
    "inbox summary": get("/v1/notifications/summary?hub={hub}"),
    "access": post("/v1/memories/{memory}/access"),
    "visit a topic": post("/v1/topics/{topic}/visit", {}),
    "visit": post("/v1/hubs/{hub}/visit", {}),
    "dream usage": get("/v1/usage/dreams?hub_id={hub}"),
    "usage": get("/v1/usage"),
    "agents": get("/v1/agents"),
    "settings": get("/v1/settings"),
    "nothing changed": patch("/v1/memories/{memory}", {"title": ""}),
    "a topic below theirs": post("/v1/topics", {"name": "x" * 101, "parent_id": "{topic}"}),
    "their memory in no topic": post("/v1/topics/{memory}/memories", {"memory_id": "{memory}"}),
    "move what is not one's own": post("/v1/memories/batch-move", {"ids": ["{memory}"], "hub_id": "{hub}"}),
    "share what is not one's own": post("/v1/memories/{memory}/share", {"target_hub_id": "{hub}"}),
}
ALL = {**WAYS, **QUIET}
REPEATED = ("recall", "ask", "agents' recall")


async def done(who: Browser, method: str, path: str, body: Any = None, **more: Any) -> Any:
    """What comes of it in the end, however busy everybody is; a repeat tells what nobody was sure of."""
    more["headers"] = {**more.get("headers", {}), "Idempotency-Key": secrets.token_hex(8)}
    unsure = False
    while (reply := await who.call(method, path, body, **more)).status == 503:
        unsure = unsure or reply.error == "outcome_unknown"
        await asyncio.sleep(0.05)
    gone = unsure and method == "DELETE" and reply.status in (403, 404)
    return None if gone else reply.data()


class Play:
    """Everybody and all hubs, those that are gone included."""

    def __init__(self, world: World, watch: Watch, keeper: Person, people: list[Person]) -> None:
        self.world = world
        self.watch = watch
        self.keeper = keeper
        self.people = people
        self.chance = random.Random(18)
        self.dens: list[Den] = []
        self.gone: list[Den] = []
        self.slots: list[Holder] = []
        self.stale: list[Holder] = []
        self.over = asyncio.Event()
        self.sure = False
        self.ends = 0
        self.statuses: set[tuple[str, int]] = set()
        self.refused = 0

    def fill(self, text: str, den: Den) -> str:
        # What comes first is certain to be found.
        pick = self.first if self.sure else self.chance.choice
        names = {
            "hub": den.hub.id,
            "slug": den.hub.body["slug"],
            "word": den.word,
            "query": pick(QUERIES),
            "first": den.memories[0],
            "memory": pick(den.memories),
            "topic": pick(den.topics),
            "run": pick(den.runs or [den.hub.id]),
            "file": den.file[0],
            "attachment": den.file[1],
        }
        for name, value in names.items():
            text = text.replace("{" + name + "}", value)
        return text

    @staticmethod
    def first(things: Sequence[str]) -> str:
        return things[0]

    def in_den(self, den: Den) -> list[Person]:
        """Those in it that may be made to leave."""
        return [person for person in self.people if person.id in den.known and person is not den.owner]

    async def ask(
        self, holder: Holder, name: str, den: Den, *, sure: bool = False, key: str | None = None
    ) -> None:
        """Ask in one way; if `sure`, for what is certainly there."""
        self.sure = sure
        method, path, body, headers = ALL[name](self, den)
        self.sure = False
        browser = holder.browser
        if "Cookie" in headers:
            headers, browser = {"Cookie": f"__session={browser.token}"}, self.world.nobody
        if key is not None:
            headers = {**headers, "Idempotency-Key": f"{key} {name}"}
        since = now()
        reply = await browser.call(method, path, body, headers=headers)
        self.statuses.add((name, reply.status))
        self.refused += reply.status >= 400
        asked = path + json.dumps(body) + str(headers)
        self.watch.judge(holder, name, since, f"{reply.headers}{reply.response.text}", asked)

    async def look(self, holder: Holder, den: Den) -> None:
        """Ask for an address of a file, or use one that was asked for before."""
        if holder.views and self.chance.random() < 0.6:
            since, url = now(), self.chance.choice(holder.views)
            reply = await self.world.nobody.get(url)
            self.statuses.add(("view", reply.status))
            self.watch.judge(holder, "view", since, f"{reply.headers}{reply.response.text}", url)
            return
        file, attachment = den.file
        reply = await holder.browser.post(f"/v1/memories/{file}/attachments/{attachment}/view-url")
        if reply.status == 200:
            address = urlsplit(reply.data()["url"])
            holder.views.append(f"{address.path}?{address.query}")

    async def read_on(self) -> None:
        """With everybody's credentials, and with those that are worth nothing any more."""
        while not self.over.is_set():
            holder = self.chance.choice(self.slots)
            if self.stale and self.chance.random() < 0.1:
                holder = self.chance.choice(self.stale)
            den = self.chance.choice(self.gone if self.gone and self.chance.random() < 0.1 else self.dens)
            if self.chance.random() < 0.08:
                await self.look(holder, den)
                continue
            name = self.chance.choice(list(ALL))
            if holder.name == "session" or not name.startswith("page"):
                await self.ask(holder, name, den)

    async def hear_on(self, slot: int) -> None:
        """With an open stream, and with another one when that has ended."""
        while not self.over.is_set():
            holder = self.slots[slot]
            since = now()
            try:
                async with listening(holder.browser) as stream:
                    _, ready = await stream.next()
                    self.watch.judge(holder, "ready", since, json.dumps(ready), "")
                    await self._hear(holder, stream)
            except AssertionError:
                # The key was revoked, and the next one is on its way.
                await asyncio.sleep(0.05)
            except (StopAsyncIteration, TimeoutError):
                pass

    async def _hear(self, holder: Holder, stream: Listener) -> None:
        while not self.over.is_set():
            _, event = await stream.next()
            changed = datetime.fromisoformat(event["created_at"]).timestamp()
            # Of a list one is told that one is out of it.
            if event["type"] != "hub.list.changed":
                self.watch.judge(holder, "events", changed, json.dumps(event), "")

    # What happens meanwhile.

    async def join(self, den: Den) -> None:
        outside = [person for person in self.people if person.id not in den.known]
        if not outside:
            return
        person, role = self.chance.choice(outside), self.chance.choice(["viewer", "contributor", "admin"])
        if self.chance.random() < 0.5:
            den.out[person.id] = STILL
            await done(den.owner, "POST", f"{den.hub.url}/members", {"user_id": person.id, "role": role})
            return
        for secret in (den.name, den.plate):
            secret.guests.add(person.id)
        invitee = {"role": role, "invitee": {"user_id": person.id}}
        token = (await done(den.owner, "POST", f"{den.hub.url}/invites", invitee))["token"]
        den.out[person.id] = STILL
        await done(person, "POST", f"/v1/invites/{token}/accept", {})

    async def remove(self, den: Den) -> None:
        if inside := self.in_den(den):
            person = self.chance.choice(inside)
            async with self.just_before_and_after(den, person):
                await done(den.owner, "DELETE", f"{den.hub.url}/members/{person.id}")
                den.out[person.id] = now()

    async def leave(self, den: Den) -> None:
        if inside := self.in_den(den):
            person = self.chance.choice(inside)
            async with self.just_before_and_after(den, person):
                await done(person, "POST", f"{den.hub.url}/leave", {})
                den.out[person.id] = now()

    @asynccontextmanager
    async def just_before_and_after(self, den: Den, person: Person) -> AsyncIterator[None]:
        """With all that this person has: the same again by the same key, and whatever else there is."""
        holders = [holder for holder in self.slots if holder.person is person]
        self.ends += 1
        again = [
            partial(self.ask, holder, name, den, sure=True, key=f"{self.ends} {holder.name}")
            for holder in holders
            for name in REPEATED
        ]
        await at_once([call() for call in again])
        yield
        others = self.chance.sample(list(WAYS), 8)
        await at_once(
            [call() for call in again]
            + [self.ask(holder, name, den, sure=True) for holder in holders for name in others]
        )

    async def re_role(self, den: Den) -> None:
        if inside := self.in_den(den):
            member = f"{den.hub.url}/members/{self.chance.choice(inside).id}"
            role = {"role": self.chance.choice(["viewer", "contributor", "admin"])}
            await done(den.owner, "PATCH", member, role)

    async def hand_over(self, den: Den) -> None:
        """To a member, or back to who made it."""
        back = [self.keeper] if den.owner is not self.keeper else self.in_den(den)
        if back:
            to = self.chance.choice(back)
            transfer = f"{den.hub.url}/ownership-transfer"
            offer = await done(den.owner, "POST", transfer, {"target_user_id": to.id})
            await done(to, "POST", f"{transfer}/{offer['id']}/accept", {})
            den.owner = to

    async def rename(self, den: Den) -> None:
        name = new_word()
        self.watch.secrets.remove(den.name)
        den.name = Secret(den, name)
        self.watch.secrets.append(den.name)
        await done(den.owner, "PATCH", den.hub.url, {"name": f"Den {name}"})

    async def write(self, den: Den) -> None:
        said = f"Plums and {random.Random().random()} of {den.word}."
        made = await done(den.owner, "POST", "/v1/memories", {"content": said}, headers=at(den.hub))
        den.memories.append(made["id"])
        den.note(den.memories[-1])
        body = {"description": f"{said} {den.word}"}
        await done(den.owner, "PATCH", f"/v1/topics/{den.topics[0]}", body)

    async def tidy_up(self, den: Den) -> None:
        asked = DreamAsked(run_id=new_id(), space_id=UUID(den.hub.id))
        den.note(str(asked.run_id))
        busy = True
        while busy:
            try:
                await dreams.dream(self.world.house.work, asked)
                busy = False
            except (Retryable, Unavailable):
                # As a worker does: what was begun goes on where it was.
                await asyncio.sleep(0.05)
        den.runs.append(str(asked.run_id))

    async def churn(self, den: Den, *, mortal: bool) -> None:
        often = [self.join, self.join, self.join, self.remove, self.leave, self.remove, self.write]
        for step in range(STEPS):
            rare = [self.re_role, self.hand_over, self.rename, self.tidy_up]
            await self.chance.choice([*often, *rare])(den)
            if mortal and step % 10 == 3:
                await done(den.owner, "DELETE", den.hub.url)
                den.out = dict.fromkeys(den.out, now())
                self.gone.append(den)
                self.dens.remove(den)
                den = await furnish(self.world, self.watch, self.keeper)
                self.dens.append(den)

    async def wander(self, author: Person, dens: list[Den]) -> None:
        """A memory that its author moves from hub to hub, each time in another way."""
        word = new_word()
        here = dens[0]
        made = await push(author, f"Plums that wander with {word}.", here.hub, title=word, tags=[word])
        secret = Secret(here, word, made["id"])
        self.watch.secrets.append(secret)
        for step in range(STEPS * 2):
            there = dens[(step + 1) % len(dens)]
            here.memories.append(made["id"])
            secret.homes[there] = STILL
            if step % 2:
                body = {"target_hub_id": there.hub.id}
                await done(author, "POST", f"/v1/memories/{made['id']}/share", body)
            else:
                body = {"ids": [made["id"]], "topic_id": there.topics[0], "hub_id": there.hub.id}
                path = "/v1/memories/batch-move"
                assert (await done(author, "POST", path, body, headers=at(there.hub)))["moved"] == 1
            secret.homes[here] = now()
            here = there

    async def revoke_keys(self) -> None:
        for _ in range(STEPS):
            slot = self.chance.choice([n for n, holder in enumerate(self.slots) if holder.key])
            old = self.slots[slot]
            await done(old.person, "DELETE", f"/v1/auth/api-keys/{old.key}")
            old.dead = now()
            self.stale.append(old)
            if (holder := await self.new_key(old.person, old.name)) is not None:
                self.slots[slot] = holder

    async def new_key(self, person: Person, name: str) -> Holder | None:
        wanted: dict[str, Any] = {"scopes": ["read"]} if name == "read-only key" else {}
        only = None
        if name == "key for one hub":
            dens = [den for den in self.dens if person.id in den.known]
            only = self.chance.choice(dens or self.dens)
            wanted = {"hub_id": only.hub.id}
        body = {"name": name, **wanted}
        reply = await insist(partial(person.post, "/v1/auth/api-keys", body))
        if reply.status == 403:
            return None
        made = reply.data(201)
        holder = Holder(person, Browser(self.world, made["key"]), name, only)
        holder.key = made["id"]
        return holder


@asynccontextmanager
async def everybody(world: World) -> AsyncIterator[tuple[Play, Person]]:
    """The hubs with their first members, and everybody's credentials."""
    keeper, author, *people = await world.people("keeper", "author", *(f"p{n}" for n in range(PEOPLE)))
    play = Play(world, Watch(), keeper, people)
    play.dens = await asyncio.gather(*(furnish(world, play.watch, keeper) for _ in range(DENS)))
    await world.drain()
    for n, den in enumerate(play.dens):
        others = people[n % PEOPLE], people[n - 1]
        for person, role in zip((author, *others), ("contributor", "viewer", "admin"), strict=True):
            den.out[person.id] = STILL
            await world.join(den.hub.id, person, role)
        await play.tidy_up(den)
    for person in people:
        play.slots.append(Holder(person, person, "session"))
        for name in ("key", "key for one hub", "read-only key"):
            if (holder := await play.new_key(person, name)) is not None:
                play.slots.append(holder)
    yield play, author


async def test_nobody_hears_what_is_in_a_hub_they_are_not_in(
    racing: World, record_property: Callable[[str, object], None]
) -> None:
    async with everybody(racing) as (play, author):
        reading = [asyncio.create_task(play.read_on()) for _ in range(READERS)]
        hearing = [asyncio.create_task(play.hear_on(slot)) for slot in range(len(play.slots))]
        *lasting, mortal = list(play.dens)
        try:
            await asyncio.gather(
                *(play.churn(den, mortal=False) for den in lasting),
                play.churn(mortal, mortal=True),
                *(play.wander(author, [lasting[n], lasting[n - 1]]) for n in range(2)),
                play.revoke_keys(),
            )
            play.over.set()
            await asyncio.gather(*reading)
        finally:
            for task in (*reading, *hearing):
                task.cancel()
            heard = await asyncio.gather(*hearing, return_exceptions=True)
        assert [end for end in heard if not isinstance(end, asyncio.CancelledError | None)] == []
        # Whoever is in a hub hears of it everywhere: that would have been noticed.
        keeper = Holder(play.keeper, play.keeper, "session")
        for name in WAYS:
            await play.ask(keeper, name, play.dens[0], sure=True)
        assert play.watch.leaks == []
        assert not [said for said in play.statuses if said[1] >= 500 and said[1] != 503]
        assert set(WAYS) | {"events"} <= play.watch.heard.keys()
        assert play.refused > 50
        record_property("answers_looked_at_for_canaries", sum(play.watch.kept.values()))
