"""The stream of events: who hears what, when, and how a stream ends. Over sockets, from two processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from guildhall.commands import operating
from guildhall.db import open_db
from guildhall.errors import Forbidden
from guildhall.events.bus import MISSED, PostgresBus
from guildhall.events.event import MOST_PEOPLE, tell_members, tell_people, tell_user
from guildhall.events.routes import stream_events
from guildhall.events.streams import QUEUE, Stream
from guildhall.wiring import build_edge
from tests import cluster as clusters
from tests.api.test_erasure import caller_of
from tests.races.pair import two_processes
from tests.v1.listening import PATIENCE_S, listening
from tests.v1.test_access_keys import KEYS, hub_of, make_key
from tests.world import Browser, Person, World, scope_of, settings_for

MISSING = "018f0000-0000-7000-8000-000000000000"


@pytest_asyncio.fixture(scope="module")
async def pair(
    cluster: clusters.Cluster, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("pair")
    async with two_processes(folder, clusters.app_url(cluster, database), database) as world:
        yield world


async def tell_hub(world: World, hub: str, kind="hub.members.changed", **fields: object) -> None:
    async with world.db.writing() as tx:
        tell_members(tx, UUID(hub), kind, actor="somebody", **fields)  # pyright: ignore[reportArgumentType]


async def mark(world: World, person: Person, hub: str | None = None) -> str:
    """The last thing a test lets a person hear: whatever was to come before has come."""
    async with world.db.writing() as tx:
        about = UUID(hub) if hub else None
        tell_user(
            tx, person.id, "hub.list.changed", actor="somebody", about=about, entity_id=hub, state="the end"
        )
    return "hub.list.changed"


async def test_a_stream_is_framed_as_simple_readers_take_it(pair: World) -> None:
    ada = await pair.person("ada")
    team = await hub_of(pair, ada)
    async with listening(ada) as stream:
        headers = stream.response.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert "no-cache" in headers["cache-control"] and headers["x-accel-buffering"] == "no"
        name, ready = await stream.next()
        assert (name, ready["user_id"], set(ready["hub_ids"]) >= {team}) == ("ready", ada.id, True)
        await tell_hub(pair, team)
        name, event = await stream.next()
        assert name == event["type"] == "hub.members.changed"
        assert (event["hub_id"], event["actor_id"]) == (team, "somebody")
        assert event.keys() == {"id", "type", "hub_id", "actor_id", "created_at"}


async def test_what_one_process_commits_is_heard_in_the_others_and_nothing_else(pair: World) -> None:
    ada = await pair.person("ada")
    async with listening(ada) as one, listening(ada) as other:
        made, _ = await make_key(ada)
        with pytest.raises(ZeroDivisionError):
            async with pair.db.writing() as tx:
                tell_user(tx, ada.id, "agent.changed", actor=ada.id, entity_id="never", state="upserted")
                raise ZeroDivisionError
        await ada.post(KEYS, {"name": "x", "scopes": ["nonsense"]})
        await ada.delete(f"{KEYS}/{made['id']}")
        for stream in (one, other):
            assert await stream.types_until("key.changed", entity_id=made["id"], state="created") == ["ready"]
            assert await stream.types_until("key.changed", entity_id=made["id"], state="revoked") == []


async def test_membership_is_judged_when_an_event_is_told(pair: World) -> None:
    ada, bo, cy = await pair.people("ada", "bo", "cy")
    team = await hub_of(pair, ada, bo)
    async with listening(bo) as leaving, listening(cy) as joining:
        async with pair.db.writing() as tx:
            await tx.run("DELETE FROM members WHERE space_id = $1::text::uuid AND user_id = $2", team, bo.id)
            await tx.run(
                "INSERT INTO members (space_id, kind, user_id, role)"
                " VALUES ($1::text::uuid, 'hub', $2, 'viewer')",
                team,
                cy.id,
            )
        await tell_hub(pair, team)
        await tell_hub(pair, team, role="owner")
        assert await leaving.types_until(await mark(pair, bo)) == ["ready"]
        assert await joining.types_until(await mark(pair, cy)) == ["ready", "hub.members.changed"]


async def test_a_stream_can_be_for_one_hub_and_certain_types(pair: World) -> None:
    ada, eve = await pair.people("ada", "eve")
    team, other = await hub_of(pair, ada), await hub_of(pair, ada)
    async with (
        listening(ada, f"?hub_id={team}") as one_hub,
        listening(ada, "?types=hub.topics.changed,hub.list.changed,nonsense") as one_type,
    ):
        assert (await one_hub.next())[1]["hub_ids"] == [team]
        for hub in (other, team):
            await tell_hub(pair, hub)
            await tell_hub(pair, hub, kind="hub.topics.changed")
        await mark(pair, ada, other)
        end = await mark(pair, ada, team)
        heard = await one_hub.types_until(end, entity_id=team)
        assert heard == ["hub.members.changed", "hub.topics.changed"]
        heard = await one_type.types_until(end, entity_id=team)
        assert heard == ["ready", "hub.topics.changed", "hub.topics.changed", "hub.list.changed"]
    for hub in (team, "nonsense"):
        assert (await eve.get(f"/v1/events/stream?hub_id={hub}")).error == "forbidden"
    assert (await pair.nobody.get("/v1/events/stream")).error == "unauthorized"
    head = await ada.call("HEAD", "/v1/events/stream")
    assert (head.status, head.headers["x-accel-buffering"], head.response.content) == (200, "no", b"")


async def test_a_key_hears_what_it_may_read_in_its_own_hubs(pair: World) -> None:
    ada = await pair.person("ada")
    team, other = await hub_of(pair, ada), await hub_of(pair, ada)
    _, key = await make_key(ada, hub_id=team, scopes=["hub:read"])
    async with listening(key) as stream:
        assert (await stream.next())[1]["hub_ids"] == [team]
        for hub in (other, team):
            await tell_hub(pair, hub, kind="hub.topics.changed")
            await tell_hub(pair, hub)
            await mark(pair, ada, hub)
        await make_key(ada)
        end = await mark(pair, ada, team)
        assert await stream.types_until(end, entity_id=team) == ["hub.members.changed"]
        assert await stream.types_until(end, entity_id=team) == []


async def test_a_key_hears_nothing_of_a_hub_that_its_person_left_and_came_back_to(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    left, kept = await pair.hub(ada, contributors=[bo]), await pair.hub(ada, contributors=[bo])
    _, key = await make_key(bo, hub_ids=[left.id, kept.id])
    async with listening(key) as stream:
        await stream.next()
        (await bo.post(f"{left.url}/leave")).data(200)
        await pair.join(left.id, bo, "viewer")
        await mark(pair, bo, left.id)
        end = await mark(pair, bo, kept.id)
        assert await stream.types_until(end, entity_id=kept.id) == []


async def test_nothing_is_heard_by_who_was_signed_out(pair: World) -> None:
    ada = await pair.person("ada")
    team = await hub_of(pair, ada)
    made, key = await make_key(ada)
    other = Browser(pair, ada.token)
    async with listening(key) as revoked, listening(other) as signed_out:
        await ada.delete(f"{KEYS}/{made['id']}")
        await signed_out.types_until("key.changed", state="revoked")
        await ada.delete("/api/auth/session")
        await tell_hub(pair, team)
        await mark(pair, ada)
        assert "hub.members.changed" not in await revoked.ended()
        assert await signed_out.ended() == []


async def test_two_people_hear_what_happens_between_them(pair: World) -> None:
    """From an invite to a removal: what each is told, to look at their hubs and their inbox again."""
    ada, bo = await pair.people("ada", "bo")
    hub = await pair.hub(ada)
    url = "/v1/notifications"
    async with listening(ada, f"?hub_id={hub.id}") as of_ada, listening(bo) as of_bo:
        for person, stream in ((ada, of_ada), (bo, of_bo)):
            await stream.types_until(await mark(pair, person, hub.id), state="the end")
        (await ada.post(f"{hub.url}/invites", {"invitee": {"user_id": bo.id}})).data(201)
        name, event = await of_bo.next()
        assert (name, event["kind"], event["hub_id"]) == ("notification.created", "hub_invite", hub.id)
        assert (event["audience"], event["recipient_user_id"]) == ("user", bo.id)
        (row,) = (await bo.get(url)).data()["notifications"]
        assert (event["entity_id"], event["source_id"]) == (row["id"], row["source_id"])
        (await bo.post(f"{url}/{row['id']}/seen")).ok()
        assert (await of_bo.next())[1]["change"] == "seen"
        (await bo.post(f"{url}/{row['id']}/resolve", {"action": "accept"})).ok()
        heard = [await of_bo.next() for _ in range(4)]
        # What one change causes is told together, in no order.
        assert {
            (kind, body.get("kind"), body.get("resolution"), body.get("state")) for kind, body in heard
        } == {
            ("hub.members.changed", None, None, None),
            ("hub.list.changed", None, None, "membership_joined"),
            ("notification.resolved", "hub_invite", "accepted", None),
            ("notification.created", "hub_invite_accepted", None, None),
        }
        assert {(await of_ada.next())[0] for _ in range(2)} == {"hub.members.changed", "notification.created"}
        (await ada.post(f"{hub.url}/ownership-transfer", {"target_user_id": bo.id})).data(201)
        assert await of_bo.types_until("notification.created", kind="hub_ownership_transfer") == []
        (await ada.delete(f"{hub.url}/members/{bo.id}")).ok()
        assert await of_ada.types_until("hub.members.changed") == []
        heard = [await of_bo.next() for _ in range(2)]
        assert [(kind, body.get("state"), body.get("resolution")) for kind, body in heard] == [
            ("hub.list.changed", "membership_left", None),
            ("notification.resolved", None, "dismissed"),
        ]


async def test_streams_end_when_something_may_have_been_missed(pair: World) -> None:
    ada = await pair.person("ada")
    async with listening(ada) as stream:
        await stream.next()
        async with pair.db.single() as tx:
            await tx.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'guildhall events' AND datname = current_database()"
            )
        assert await stream.ended() == []
    # The other process may hear of it a moment later, and end what was opened there meanwhile.
    heard: list[str] = []
    async with asyncio.timeout(15):
        while not heard:
            async with listening(ada) as again:
                with suppress(StopAsyncIteration):
                    heard = await again.types_until(await mark(pair, ada))
    assert heard == ["ready"]


async def test_one_person_opens_only_so_many_streams(world: World) -> None:
    streams = world.house.service.streams
    opened = [Stream("user_many", "", None, None, hub=None, types=None) for _ in range(50)]
    for stream in opened:
        await streams.open(stream)
    try:
        more = Stream("user_many", "", None, None, hub=None, types=None)
        with pytest.raises(Exception, match="Too many of your streams"):
            await streams.open(more)
    finally:
        for stream in opened:
            streams.remove(stream)
    assert len(streams) == 0


async def test_a_slow_reader_loses_events_and_costs_no_memory() -> None:
    stream = Stream("user_slow", "", None, None, hub=None, types=None)
    kept = [stream.put(b"%d\n" % n) for n in range(QUEUE + 5)]
    assert (kept.count(True), stream.lost) == (QUEUE, 5)
    sent = await stream.next()
    assert sent is not None and sent.count(b"\n") == QUEUE
    stream.close()
    assert await stream.next() is None


async def test_who_does_not_read_a_stream_keeps_nobody_waiting_and_little_in_memory(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    edge: Any = build_edge(world.house)
    stalled = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body"):
            stalled.set()
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    asked = scope_of("GET", "/v1/events/stream", ("authorization", f"Bearer {bo.token}"))
    reading = asyncio.create_task(edge(asked, receive, send))
    try:
        await asyncio.wait_for(stalled.wait(), 15)
        (stream,) = world.house.service.streams._by_user[bo.id]
        # Each change is told to the hub twice: as what it is called, and as who is in it.
        for n in range(QUEUE):
            (await ada.patch(hub.url, {"name": f"Orchard {n}"})).data()
        async with asyncio.timeout(15):
            while len(stream._queue) + stream.lost < 2 * QUEUE:
                await asyncio.sleep(0.02)
        assert len(stream._queue) == QUEUE
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert bo.id not in world.house.service.streams._by_user


async def test_who_is_in_a_hub_hears_that_its_topics_changed(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    hub = await pair.hub(ada, viewers=[bo])
    async with listening(bo, f"?hub_id={hub.id}&types=hub.topics.changed") as stream:
        await stream.next()
        topic = (await ada.post("/v1/topics", {"name": "Beans", "hub_id": hub.id})).data(201)["id"]
        assert (await stream.next())[1].items() >= {"entity_id": topic, "hub_id": hub.id}.items()
        (await ada.delete(f"/v1/topics/{topic}")).ok(204)
        assert (await stream.next())[1].items() >= {"entity_id": topic, "actor_id": ada.id}.items()


async def test_one_hint_is_for_many_people(pair: World) -> None:
    """More than a bus keeps waiting, were it one message for each of them."""
    ada = await pair.person("ada")
    people = [f"{n:064}" for n in range(12_000)]
    async with listening(ada) as stream:
        async with pair.db.writing() as tx:
            tell_people(tx, [*people, ada.id], "hub.list.changed", actor="somebody", state="deleted")
            messages = list(tx.left)
        assert await stream.types_until("hub.list.changed", state="deleted") == ["ready"]
    assert len(messages) == -(-12_001 // MOST_PEOPLE)
    assert max(map(len, messages)) < 8_000


async def test_what_changes_while_a_stream_opens_is_in_its_list_or_heard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    streams = world.house.service.streams
    really_open = streams.open

    async def open_and_join(stream: Stream) -> None:
        await really_open(stream)
        await world.join(hub.id, bo, "viewer")

    monkeypatch.setattr(streams, "open", open_and_join)
    caller = caller_of(world, bo)
    answer: Any = await stream_events.fn(caller)
    answering, stream, first = answer._parts
    answering.remove(stream)
    assert hub.id in first.decode()
    monkeypatch.undo()
    before = len(streams)
    with pytest.raises(Forbidden):
        await stream_events.fn(caller_of(world, await world.person("eve")), hub_id=MISSING)
    assert len(streams) == before


async def test_who_listens_is_told_that_something_was_dropped(
    cluster: clusters.Cluster, database: str
) -> None:
    url = clusters.app_url(cluster, database)
    db = await open_db(url, size=1)
    sender, listener = PostgresBus(db, url), PostgresBus(db, url)
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(*wanted: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            for message in wanted:
                while await heard.get() != message:
                    pass

    await listener.listen(heard.put_nowait, lambda: None)
    try:
        # It can never be sent, and what is in one batch with it is lost as well.
        sender.send([b"x" * 9_000])
        await hear(MISSED)
        sender.send([b"next"])
        await hear(b"next")
        # Nothing is lost of what only has to wait.
        async with db.single():
            sender.send([b"later"])
            await asyncio.sleep(2.2)
            # Others in this database may say something meanwhile.
            assert b"later" not in [heard.get_nowait() for _ in range(heard.qsize())]
        await hear(b"later")
        sender.send([b"%d" % n for n in range(10_001)])
        await hear(MISSED, b"10000")
    finally:
        await sender.aclose()
        await listener.aclose()
        await db.close()


async def test_what_a_command_changes_is_heard(
    pair: World, cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    ada = await pair.person("ada")
    settings = settings_for(tmp_path, clusters.app_url(cluster, database), database)
    async with listening(ada) as stream:
        async with operating(settings) as db, db.writing() as tx:
            tell_user(tx, ada.id, "hub.list.changed", actor="", state="by hand")
        assert await stream.types_until("hub.list.changed", state="by hand") == ["ready"]


async def test_streams_end_where_something_was_missed(pair: World) -> None:
    ada = await pair.person("ada")
    async with listening(ada) as stream:
        await stream.next()
        async with pair.db.writing() as tx:
            tx.leave(MISSED)
        assert await stream.ended() == []
