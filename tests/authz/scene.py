"""The places and people that the table is played on, and a stage on which nothing that is played stays."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
import msgspec

from guildhall.db import Joined, Write, new_id
from guildhall.db.kept import Connection
from guildhall.dreams.jobs import DreamAsked, dream
from guildhall.users import handlers as user_handlers
from guildhall.users import sign_in
from guildhall.users.jobs import ExportAsked
from guildhall.web.tally import Tally
from guildhall.wiring import build_edge
from tests.authz.api import FILE, ITEM, PNG
from tests.authz.keys import HELD
from tests.authz.rows import PRINCIPALS, WITH_CHILDREN
from tests.world import ORIGIN, Browser, Person, World

Ids = dict[str, str]
# What everybody has one of, which `my_…` stands for.
MINE = ("post", "session", "key", "agent", "notice", "steps", "memory")


class Scene:
    """The people by their part, and what the names in the table stand for."""

    def __init__(self, people: Mapping[str, Person], places: Mapping[str, Ids]) -> None:
        self.people = people
        self._places = places

    def ids(self, about: str, principal: str, names: list[str]) -> Ids:
        """What the names of a call stand for when the principal makes it about this."""
        if about in WITH_CHILDREN:
            parent = "other" if about == "foreign parent" else "own"
            children = {"no child": "unknown", "foreign child": "other", "foreign parent": "own"}[about]
            where = {name: parent if name == names[0] else children for name in names}
            return {name: self.ids(place, principal, names)[name] for name, place in where.items()}
        place = self._places["own" if about == "bad body" else about]
        me = self.people.get(principal)
        mine = {
            f"my_{what}": place.get(f"{what} of {me.id}" if me else "", place.get(what, "")) for what in MINE
        }
        always = {"me": me.id if me else "user_nobody", "step": "profile", "provider": "email"}
        return place | mine | always


class Stage:
    """The whole application inside one transaction, of which nothing stays."""

    def __init__(self, world: World, connection: Connection, digest: str) -> None:
        self.world = world
        self._connection = connection
        self._digest = digest
        self._before: str | None = None

    @asynccontextmanager
    async def rehearsal(self) -> AsyncGenerator[None]:
        """What is done inside is undone at its end."""
        if self._before is None:
            self._before = await self._connection.fetchval(self._digest)
        try:
            yield
        finally:
            await self._connection.execute("ROLLBACK AND CHAIN")

    async def has_changed(self) -> bool:
        """Whether any row of any table was written or deleted, seen from inside the transaction."""
        return await self._connection.fetchval(self._digest) != self._before

    async def check_constraints(self) -> None:
        """Ask for what a commit would ask for."""
        await self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def caller(self, person: Person | None) -> Browser:
        return Browser(self.world, person.token if person else None)


@asynccontextmanager
async def open_stage(world: World) -> AsyncIterator[Stage]:
    # Not from the pool, whose connections give up a transaction in which nothing happens for a while.
    url = world.house.settings.database.url
    connection = await asyncpg.connect(url, connection_class=Connection, server_settings={"jit": "off"})
    try:
        # Whatever is written bears a number greater than all before, so that no sum is met again.
        sums = await connection.fetch(
            "SELECT format('(SELECT (count(*), sum(xmin::text::bigint)) FROM %I)', relname)"
            " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND has_table_privilege(oid, 'INSERT') ORDER BY relname"
        )
        digest = "SELECT concat(" + ", ".join(row[0] for row in sums) + ")"
        await connection.execute("BEGIN")
        db = Joined(world.db, Write(world.db, connection))
        # What is counted in passing would be written from outside the transaction.
        service = msgspec.structs.replace(world.house.service, tally=Tally(world.db))
        app: Any = build_edge(msgspec.structs.replace(world.house, db=db, service=service))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            yield Stage(World(world.house, client, world.owner_url), connection, digest)
    finally:
        await connection.close()


async def build_scene(world: World) -> Scene:
    """Everybody and everything, made by the calls that make them."""
    people = {name: await world.person(name) for name in PRINCIPALS if name != "anonymous"}
    others = {name: await world.person(name) for name in people} | {"owner": people["other_owner"]}
    places: dict[str, Ids] = {
        "own": await _things(world, people["member"]),
        "own public": {},
        "other": {},
        "deleted": await _things(world, people["erased"]),
    }
    for name, ids in places.items():
        cast = others if name == "other" else people
        extras = ("person", "group_person", "an_admin", "newcomer")
        cast = cast | {extra: await world.person(extra) for extra in extras}
        ids |= {extra: cast[extra].id for extra in extras}
        ids |= {"the_owner": cast["owner"].id, "member_email": cast["person"].email}
        await _communities(world, ids, cast, is_private=name != "own public")
        if name != "own public":
            await _hubs(world, ids, cast)
    places["unknown"] = _nothing(world, places["own"])
    people |= await _keys(people["owner"], places["own"]["hub"])
    for name in people.keys() - HELD.keys():
        person = people[name]
        for what, id in (await _belongings(world, person, "claude-code")).items():
            places["own"][f"{what} of {person.id}"] = id
    belongings = await _belongings(world, others["member"], "codex")
    places["other"] |= belongings
    # What a call of nobody's is about does not matter, but it must be there.
    places["own"] |= belongings
    await _delete(world, people, places["deleted"])
    await world.house.service.tally.flush()
    async with world.db.writing() as tx:
        # What making the scene left to do and to remember makes every digest longer.
        for forget in ("DELETE FROM audit", "DELETE FROM pgqueuer", "DELETE FROM pgqueuer_log"):
            await tx.connection.execute(forget)
        # Health is asked for as well, and wants a worker.
        await tx.run("INSERT INTO workers (id, seen_at) VALUES ($1, now() + interval '1 hour')", new_id())
    return Scene(people, places)


async def _belongings(world: World, person: Person, agent: str) -> Ids:
    """What is somebody's alone: the session, a key, the agent it is for, something they are told."""
    notice = new_id()
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO notifications"
            " (id, source_id, recipient_user_id, kind, bucket, source_kind)"
            " VALUES ($1, $2, $3, 'system_notice', 'update', 'system_notice')",
            notice,
            str(notice),
            person.id,
        )
    key = await person.post("/v1/auth/api-keys", {"name": "Key", "agent_name": agent})
    return {
        "session": person.id.replace("user_", "sess_"),
        "key": key.data(201)["id"],
        "agent": agent,
        "notice": str(notice),
        "steps": (await person.post("/v1/onboarding/restart")).data(200)["id"],
    }


async def _keys(owner: Person, hub: str) -> dict[str, Person]:
    """The owner again, by keys."""
    found: dict[str, Person] = {}
    for name, atoms in HELD.items():
        wanted = {"name": name, "permissions": sorted(atoms), "trust_level": "elevated"}
        wanted |= {"hub_ids": [hub]} if name == "hub_key" else {}
        key = (await owner.post("/v1/auth/api-keys", wanted)).data(201)["key"]
        found[name] = Person(owner.world, name, owner.id, owner.email, key)
    return found


async def _delete(world: World, people: Mapping[str, Person], ids: Ids) -> None:
    for path in ("/api/communities/{community}", "/api/communities/{handed}", "/v1/hubs/{hub}"):
        (await people["owner"].delete(path.format_map(ids))).ok()
    (await people["owner"].delete("/v1/hubs/{handed_hub}".format_map(ids))).ok()
    (await world.nobody.delete(f"/api/backlog/{ids['item']}")).ok(204)
    (await people["erased"].delete("/api/users/me")).ok(204)


async def _communities(world: World, ids: Ids, cast: Mapping[str, Person], *, is_private: bool) -> None:
    """A community with all of the cast and what hangs from it, and one that is offered to its moderator."""
    owner, gone = cast["owner"], cast["ex_member"]
    for name in ("community", "handed"):
        made = await world.community(
            owner,
            admins=[cast["admin"], cast["an_admin"], gone, cast["erased"]],
            moderators=[cast["moderator"]],
            members=[cast["member"], cast["group_admin"], cast["person"], cast["group_person"]],
            isPrivate=is_private,
            slug=f"scene-{secrets.token_hex(6)}",
        )
        ids[name] = made.id
        if name == "community":
            ids["slug"] = made.body["slug"]
            invite = (await owner.post(f"{made.url}/invite", {"email": cast["invitee"].email})).ok(201)
            ids |= {"invite": invite["id"], "token": invite["token"]}
            await _groups(ids, cast)
            await _posts(ids, cast)
        else:
            offer = {"targetUserId": cast["moderator"].id}
            ids["transfer"] = (await owner.post(f"{made.url}/ownership-transfer", offer)).ok(201)["id"]
        (await gone.delete(f"{made.url}/members", {"targetUserId": gone.id})).ok(204)


async def _hubs(world: World, ids: Ids, cast: Mapping[str, Person]) -> None:
    """A hub with all of the cast and what hangs from it, and one that is offered to its contributor."""
    owner, gone = cast["owner"], cast["ex_member"]
    for name in ("hub", "handed_hub"):
        made = await world.hub(
            owner,
            admins=[cast["admin"], cast["an_admin"], gone, cast["erased"]],
            contributors=[cast["moderator"]],
            viewers=[cast["member"], cast["group_admin"], cast["person"]],
        )
        ids[name] = made.id
        if name == "hub":
            ids["hub_slug"] = made.body["slug"]
            invited = {"invitee": {"email": cast["invitee"].email}}
            invite = (await owner.post(f"{made.url}/invites", invited)).data(201)
            ids |= {"hub_invite": invite["id"], "hub_token": invite["token"]}
            ids["hub_link"] = (await owner.post(f"{made.url}/invites")).data(201)["token"]
            await _memories(world, ids, cast)
            await _file(world, ids, cast["an_admin"])
        else:
            offer = {"target_user_id": cast["moderator"].id}
            ids["hub_transfer"] = (await owner.post(f"{made.url}/ownership-transfer", offer)).data(201)["id"]
        (await gone.post(f"{made.url}/leave")).ok(200)


async def _memories(world: World, ids: Ids, cast: Mapping[str, Person]) -> None:
    """Everybody has written one, viewers when they could; all but one have been changed once."""
    here = {"X-Hub-ID": ids["hub"]}
    for name in ("an_admin", "ex_member", "erased", "moderator", "admin", "owner", "member", "group_admin"):
        person = cast[name]
        writer = cast["owner"] if name in ("member", "group_admin") else person
        pushed = await writer.post("/v1/memories", {"content": f"By {name}"}, headers=here)
        memory = pushed.data(201)["id"]
        (await writer.patch(f"/v1/memories/{memory}", {"title": "Changed"})).ok(200)
        if writer is not person:
            async with world.db.single() as tx:
                await tx.run("UPDATE memories SET author_id = $2 WHERE id = $1::uuid", memory, person.id)
        ids["version"] = "1"
        ids["memory" if name == "an_admin" else f"memory of {person.id}"] = memory
    topic = await cast["owner"].post("/v1/topics", {"name": "Tomatoes"}, headers=here)
    ids["topic"] = topic.data(201)["id"]
    # What fades is put away by a dream.
    forgotten = {"content": "The bus was late.", "stability": "volatile"}
    faded = (await cast["owner"].post("/v1/memories", forgotten, headers=here)).data(201)["id"]
    async with world.db.single() as tx:
        await tx.run(
            "UPDATE memories SET created_at = now() - interval '1 year',"
            " updated_at = now() - interval '1 year' WHERE id = $1::uuid",
            faded,
        )
    run = new_id()
    await dream(world.house.work, DreamAsked(run_id=run, space_id=UUID(ids["hub"])))
    ids["dream"] = str(run)
    found = (await cast["owner"].get(f"/v1/dreams/{run}")).data(200)["actions"]
    ids["dream_action"] = next(one["id"] for one in found if one["source_memory_ids"] == [faded])


async def _file(world: World, ids: Ids, person: Person) -> None:
    """A memory that is a file, and an address that shows it."""
    asked = {"filename": "a.txt", "content_type": "text/plain", "size_bytes": 6}
    sent = (await person.post("/v1/uploads", asked | {"purpose": "memory_attachment"})).data(200)
    address = urlsplit(sent["upload_url"])
    where = f"{address.path}?{address.query}"
    put = await world.nobody.call("PUT", where, content=b"A text", headers=sent["headers"])
    put.ok(204)
    body = {"content": "Inline", "file_ref": {"object_key": sent["object_key"]}}
    pushed = (await person.post("/v1/memories", body, headers={"X-Hub-ID": ids["hub"]})).data(201)
    ids |= {"file_memory": pushed["id"], "attachment": pushed["attachments"][0]["id"]}
    url = f"/v1/memories/{pushed['id']}/attachments/{ids['attachment']}/view-url"
    ids["view"] = urlsplit((await person.post(url)).data(200)["url"]).query


async def _groups(ids: Ids, cast: Mapping[str, Person]) -> None:
    """A private and an open group, of which the community's owner and admins are no members."""
    owner = cast["owner"]
    for name, is_private in (("group", True), ("open_group", False)):
        wanted = {"communityId": ids["community"], "name": "A group", "isPrivate": is_private}
        ids[name] = (await owner.post("/api/groups", wanted)).ok(201)["id"]
        url = f"/api/groups/{ids[name]}"
        for who, role in (
            (cast["group_admin"], "admin"),
            (cast["ex_member"], "admin"),
            (cast["group_person"], "member"),
        ):
            (await owner.post(url, {"targetUserId": who.id, "role": role})).ok(201)
        (await owner.delete(f"{url}/members", {"targetUserId": owner.id})).ok(204)


async def _posts(ids: Ids, cast: Mapping[str, Person]) -> None:
    async def write(author: Person, **more: str) -> str:
        body = {"communityId": ids["community"], "content": "Hello", **more}
        return (await author.post("/api/posts", body)).ok(201)["id"]

    ids["post"] = await write(cast["person"])
    ids["group_post"] = await write(cast["group_person"], groupId=ids["group"])
    for name in ("ex_member", "erased", "member", "group_admin", "moderator", "admin", "owner"):
        ids[f"post of {cast[name].id}"] = await write(cast[name])


async def _things(world: World, person: Person) -> Ids:
    """What is in no community: an item of the backlog, an archive of one's data, files, a code, a session."""
    item = (await world.nobody.post("/api/backlog", ITEM)).ok(201)
    ids = {"item": item["id"], "archive": await _archive(world, person)}
    intents = [(await person.post("/api/uploads", FILE)).ok(201) for _ in range(2)]
    address, filled = (urlsplit(intent["uploadUrl"]) for intent in intents)
    ids |= {"upload": address.path.rpartition("/")[2], "signature": address.query}
    sent = await world.nobody.call("PUT", f"{filled.path}?{filled.query}", content=PNG)
    sent.ok(204)
    ids["blob"] = urlsplit(intents[1]["url"]).path.removeprefix("/blobs/")
    ids["address"], ids["code"] = await _code(world)
    email, code = await _code(world)
    session = await world.nobody.post("/api/auth/session", {"email": email, "code": code})
    async with world.db.writing() as tx:
        exchange = await sign_in.make_exchange_code(tx, person.id)
        # The table takes longer to play than a code is good for.
        await tx.run("UPDATE exchange_codes SET expires_at = now() + interval '1 hour'")
    return ids | {"refresh": session.ok(201)["refreshToken"], "exchange": exchange}


async def _archive(world: World, person: Person) -> str:
    """The token of the link to it, once the worker has made it."""
    (await person.get("/api/users/me/export")).ok(202)
    async with world.db.reading() as read:
        export_id = await read.value("SELECT id FROM exports WHERE user_id = $1", person.id)
    await user_handlers.make_export(world.house.work, ExportAsked(export_id=export_id))
    return (await person.get("/api/users/me/export")).ok(202)["url"].rpartition("/")[2]


async def _code(world: World) -> tuple[str, str]:
    """An address, and the code that was just mailed to it."""
    address = f"{secrets.token_hex(6)}@example.org"
    (await world.nobody.post("/api/auth/code", {"email": address})).ok(202)
    async with world.db.reading() as read:
        found = await read.connection.fetchrow(
            "SELECT id, code_hash FROM sign_in_codes WHERE email = $1", address
        )
    assert found is not None
    code = sign_in.code_of(world.house.service.keys, found["id"], found["code_hash"])
    assert code is not None
    return address, code


def _nothing(world: World, like: Ids) -> Ids:
    """Names for what never was, each of the right form."""
    ids = {name: str(new_id()) for name in like}
    ids |= dict.fromkeys(("person", "group_person", "an_admin", "the_owner"), "user_nobody")
    token = world.house.service.invite_tokens.make(new_id())
    return ids | {
        "slug": "no-such-place",
        "hub_slug": "no-such-place",
        "member_email": "nobody@example.org",
        "address": "nobody@example.org",
        "code": "000000",
        "refresh": "rft_nothing",
        "archive": "exp_nothing",
        "token": token,
        "hub_token": token,
        "hub_link": token,
        "signature": like["signature"],
        "blob": f"00/{'0' * 32}.png",
        "session": "sess_nothing",
        "key": str(new_id()),
        "notice": str(new_id()),
        "steps": str(new_id()),
        "exchange": "exc_nothing",
        "agent": "nobody-has-this",
        "view": f"id={new_id()}&exp=9999999999&sig=0",
    }
