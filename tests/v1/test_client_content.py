"""Every call of the official client about what a hub knows, as it makes it, over a real socket.

A row is what the client sends, to the letter, and the type it takes the answer for: each field is there, or
is absent where it may be, and null only where the type has null. Fields beyond these do not matter to it.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import msgspec
import pytest
import pytest_asyncio

from guildhall.db import new_id
from guildhall.dreams.jobs import DreamAsked, dream
from tests.v1 import client_types as types
from tests.v1.client import PUSH, Client, listening
from tests.world import World

FILE = {
    "filename": "plums.txt",
    "content_type": "text/plain",
    "size_bytes": 14,
    "purpose": "memory_attachment",
}

Named = dict[str, str]


class Row(msgspec.Struct, frozen=True):
    """`path`, `query` and `body` name things of the scene. `hub` is sent as X-Hub-ID; `fits` looks closer."""

    name: str
    method: str
    path: str
    status: int
    reads: Any
    body: Any = None
    query: dict[str, Any] | None = None
    hub: str | None = None
    fits: Callable[[Any, Named], bool] = lambda _, __: True


def at_hub(found: Any, named: Named) -> bool:
    return found.hub_id == named["hub"]


ROWS = [
    Row(
        "memories.push",
        "POST",
        "/v1/memories",
        201,
        types.Memory,
        body={"content": "Pears are picked in September.", **PUSH},
        hub="{hub}",
        fits=lambda found, named: at_hub(found, named) and found.source == "sdk" and found.version == 1,
    ),
    Row(
        "memories.push with everything",
        "POST",
        "/v1/memories",
        201,
        types.Memory,
        body={
            "content": "Quinces are hard.",
            **PUSH,
            "title": "Quinces",
            "hint": "As jelly",
            "kind": "semantic",
            "stability": "stable",
            "tags": ["quince"],
            "source_path": "quinces.md",
            "project_context": {"repo": "garden", "branch": "main"},
            "batch_id": "b1",
        },
        hub="{hub}",
        fits=lambda found, _: (found.title, found.hint, found.tags) == ("Quinces", "As jelly", ["quince"]),
    ),
    Row(
        "memories.push again",
        "POST",
        "/v1/memories",
        200,
        types.Memory,
        body={"content": "Plums ripen in August.", **PUSH},
        hub="{hub}",
        fits=lambda found, named: found.id == named["memory"],
    ),
    Row(
        "memories.recall",
        "POST",
        "/v1/recall",
        200,
        types.RecallResult,
        body={"query": "when do plums ripen", "limit": 10, "source": "sdk"},
        hub="{hub}",
        fits=lambda found, named: (
            found.memories[0].id == named["memory"]
            and found.memories[0].relevance_score == 1
            and found.memories[0].hub_id == named["hub"]
            and found.memories[0].topic_name == "Beans"
        ),
    ),
    Row(
        "memories.recall with everything",
        "POST",
        "/v1/recall",
        200,
        types.RecallResult,
        body={
            "query": "plums",
            "limit": 5,
            "hub_ids": ["{hub}"],
            "kind": "semantic",
            "tags": ["fruit"],
            "topic_id": "{topic}",
            "include_archived": True,
            "no_rerank": True,
            "source": "sdk",
            "working_dir": "/home/ada",
            "project_context": {"repo": "garden"},
            "created_after": "7d",
            "created_before": "2099-01-01T00:00:00Z",
        },
        hub="{hub}",
        fits=lambda found, named: [memory.id for memory in found.memories] == [named["memory"]],
    ),
    Row(
        "memories.ask",
        "POST",
        "/v1/ask",
        200,
        types.AskResult,
        body={"query": "When do plums ripen?", "model": "auto"},
        hub="{hub}",
        fits=lambda found, named: (
            found.citations[0].memory_id == found.sources[found.citations[0].index - 1].id
            and "Plums ripen in August" in found.answer
        ),
    ),
    Row(
        "memories.list",
        "GET",
        "/v1/memories",
        200,
        types.MemoryPage,
        query={
            "limit": 1,
            "cursor": None,
            "sort": "relevant",
            "kind": "semantic",
            "created_after": "7d",
            "actor": "self",
            "topic_id": "{topic}",
        },
        hub="{hub}",
        fits=lambda found, named: (
            [memory.id for memory in found.memories] == [named["memory"]]
            and (found.next_cursor, found.has_more, found.total, found.actors) == ("", False, 1, {"ada": 1})
        ),
    ),
    Row(
        "memories.list without options",
        "GET",
        "/v1/memories",
        200,
        types.MemoryPage,
        hub="{hub}",
        fits=lambda found, named: all(at_hub(memory, named) for memory in found.memories),
    ),
    Row(
        "memories.search",
        "GET",
        "/v1/memories/search",
        200,
        list[types.SearchResult],
        query={"q": "plu", "limit": 5, "topic_id": "{topic}"},
        hub="{hub}",
        fits=lambda found, named: [row.memory_id for row in found] == [named["memory"]],
    ),
    Row("memories.get", "GET", "/v1/memories/{memory}", 200, types.WholeMemory, fits=at_hub),
    Row("memories.trackAccessed", "POST", "/v1/memories/{memory}/access", 204, None),
    Row(
        "memories.related",
        "GET",
        "/v1/memories/{memory}/related",
        200,
        list[types.Related],
        fits=lambda found, named: found and found[0].memory.id != named["memory"],
    ),
    Row(
        "memories.update",
        "PATCH",
        "/v1/memories/{own}",
        200,
        types.Memory,
        body={"title": "Mine", "tags": []},
        fits=lambda found, _: (found.title, found.tags, found.version) == ("Mine", [], 2),
    ),
    Row("memories.delete", "DELETE", "/v1/memories/{doomed}", 200, types.Deleted),
    Row(
        "memories.share",
        "POST",
        "/v1/memories/{shared}/share",
        200,
        types.Memory,
        body={"target_hub_id": "{other}"},
        fits=lambda found, named: found.hub_id == named["other"],
    ),
    Row(
        "memories.batchDelete",
        "POST",
        "/v1/memories/batch-delete",
        200,
        types.BatchDeleted,
        body={"ids": ["{doomed too}", "{doomed too}", "{missing}"]},
        fits=lambda found, named: (
            (found.deleted, [(row.id, row.reason) for row in found.skipped])
            == (1, [(named["missing"], "not_found")])
        ),
    ),
    Row(
        "memories.batchMove",
        "POST",
        "/v1/memories/batch-move",
        200,
        types.BatchMoved,
        body={"ids": ["{moved}"], "topic_id": "{topic}", "hub_id": "{hub}"},
        hub="{hub}",
        fits=lambda found, _: (found.moved, found.skipped) == (1, []),
    ),
    Row(
        "memories.attachmentViewURL",
        "POST",
        "/v1/memories/{filed}/attachments/{attachment}/view-url",
        200,
        types.ViewUrl,
    ),
    Row("uploads.create", "POST", "/v1/uploads", 200, types.UploadIntent, body=FILE),
    Row(
        "bar.search",
        "GET",
        "/v1/bar/search",
        200,
        types.BarResult,
        query={"q": "bean", "limit": 5, "topic_id": None},
        hub="{hub}",
        fits=lambda found, named: (
            found.query == "bean" and named["topic"] in [topic.id for topic in found.topics]
        ),
    ),
    Row(
        "bar.search for nothing",
        "GET",
        "/v1/bar/search",
        200,
        types.BarResult,
        query={"q": ""},
        fits=lambda found, _: (found.query, found.memories, found.topics, found.hubs) == ("", [], [], []),
    ),
    Row(
        "topics.list",
        "GET",
        "/v1/topics",
        200,
        types.TopicForest,
        query={"hub_id": "{hub}"},
        fits=lambda found, named: at_hub(found.topics[0], named),
    ),
    Row(
        "topics.list without a hub",
        "GET",
        "/v1/topics",
        200,
        types.TopicForest,
        fits=lambda found, _: found.topics == [],
    ),
    Row("topics.get", "GET", "/v1/topics/{topic}", 200, types.Topic, hub="{hub}", fits=at_hub),
    Row("topics.get without a hub", "GET", "/v1/topics/{topic}", 200, types.Topic, fits=at_hub),
    Row(
        "topics.create",
        "POST",
        "/v1/topics",
        201,
        types.Topic,
        body={"name": "Peas", "description": "Green", "icon": "leaf", "parent_id": "{topic}"},
        hub="{hub}",
        fits=lambda found, named: at_hub(found, named) and found.parent_id == named["topic"],
    ),
    Row(
        "topics.update",
        "PATCH",
        "/v1/topics/{child}",
        200,
        types.Topic,
        body={"name": "Leeks", "parent_id": None, "pinned": True},
        hub="{hub}",
        fits=lambda found, _: (found.name, found.parent_id, found.pinned) == ("Leeks", None, True),
    ),
    Row("topics.delete", "DELETE", "/v1/topics/{doomed topic}", 204, None, hub="{hub}"),
    Row(
        "topics.listArchived",
        "GET",
        "/v1/topics/archived",
        200,
        types.TopicList,
        query={"hub_id": "{hub}"},
        hub="{hub}",
        fits=lambda found, named: named["archived"] in [topic.id for topic in found.topics],
    ),
    Row(
        "topics.archive",
        "POST",
        "/v1/topics/{to archive}/archive",
        200,
        types.TopicArchived,
        body={},
        hub="{hub}",
        fits=lambda found, _: found.archived_count == 1,
    ),
    Row(
        "topics.archive again",
        "POST",
        "/v1/topics/{archived}/archive",
        200,
        types.TopicArchived,
        body={},
        hub="{hub}",
        fits=lambda found, _: found.archived_count is msgspec.UNSET,
    ),
    Row(
        "topics.restore",
        "POST",
        "/v1/topics/{to restore}/restore",
        200,
        types.TopicRestored,
        body={},
        hub="{hub}",
        fits=lambda found, _: found.restored_count == 1,
    ),
    Row(
        "topics.restore again",
        "POST",
        "/v1/topics/{topic}/restore",
        200,
        types.TopicRestored,
        body={},
        hub="{hub}",
        fits=lambda found, _: found.restored_count is msgspec.UNSET,
    ),
    Row(
        "topics.listMemories",
        "GET",
        "/v1/topics/{topic}/memories",
        200,
        types.TopicMemories,
        query={"limit": 1, "cursor": None},
        hub="{hub}",
        fits=lambda found, _: len(found.memories) == 1,
    ),
    Row(
        "topics.assignMemory",
        "POST",
        "/v1/topics/{topic}/memories",
        201,
        None,
        body={"memory_id": "{to assign}", "confidence": 0.9},
        hub="{hub}",
    ),
    Row(
        "topics.unassignMemory",
        "DELETE",
        "/v1/topics/{ordered}/memories/{to unassign}",
        204,
        None,
        hub="{hub}",
    ),
    Row(
        "topics.reorder",
        "POST",
        "/v1/topics/reorder",
        200,
        Any,
        body={"operations": [{"topic_id": "{ordered}", "position": 5, "parent_id": "{topic}"}]},
        hub="{hub}",
        fits=lambda found, _: found == {"status": "ok"},
    ),
    Row("topics.markVisit", "POST", "/v1/topics/{topic}/visit", 200, Any, body={}),
    Row(
        "dreams.list",
        "GET",
        "/v1/dreams",
        200,
        types.DreamList,
        query={"limit": 1, "hub_id": "{hub}", "cursor": None},
        fits=lambda found, named: at_hub(found.runs[0], named) and found.next_cursor,
    ),
    Row("dreams.list without options", "GET", "/v1/dreams", 200, types.DreamList),
    Row(
        "dreams.report",
        "GET",
        "/v1/dreams/report",
        200,
        types.DreamReport,
        hub="{hub}",
        fits=lambda found, named: (
            found.has_run and at_hub(found.run, named) and found.intelligence.latest_run and found.actions
        ),
    ),
    Row(
        "dreams.report of no run",
        "GET",
        "/v1/dreams/report",
        200,
        types.DreamReport,
        fits=lambda found, _: (
            not found.has_run
            and found.message
            and found.run is found.intelligence.latest_run is msgspec.UNSET
        ),
    ),
    Row(
        "dreams.trigger",
        "POST",
        "/v1/dreams/trigger",
        200,
        Any,
        body={},
        hub="{other}",
        fits=lambda found, _: found == {"status": "queued"},
    ),
    Row(
        "dreams.usage",
        "GET",
        "/v1/usage/dreams",
        200,
        types.DreamUsage,
        query={"hub_id": "{hub}"},
        fits=lambda found, named: (found.scope, found.hub_id, found.used) == ("hub", named["hub"], 2),
    ),
    Row(
        "dreams.usage of one's own",
        "GET",
        "/v1/usage/dreams",
        200,
        types.DreamUsage,
        fits=lambda found, _: (found.scope, found.used, found.limit) == ("personal", 0, -1),
    ),
]


class Scene(msgspec.Struct):
    http: httpx.AsyncClient
    token: str | None
    named: Named

    def client(self) -> Client:
        return Client(self.http, self.token)

    def fill(self, value: Any) -> Any:
        text = msgspec.json.encode(value).decode()
        for name, named in self.named.items():
            text = text.replace("{" + name + "}", named)
        return msgspec.json.decode(text)


@pytest_asyncio.fixture(scope="module")
async def scene(world: World) -> AsyncIterator[Scene]:
    """What the rows name: each that changes something has a thing of its own for it."""
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    named = {"hub": hub.id, "other": other.id, "missing": str(new_id())}
    async with listening(world) as http:
        client = Client(http, ada.token)

        async def push(content: str, hub: str | None = named["hub"], **more: Any) -> str:
            return (await client.call("POST", "/v1/memories", {"content": content, **PUSH, **more}, hub=hub))[
                "id"
            ]

        async def make(name: str, **more: Any) -> str:
            body = {"name": name, **more}
            return (await client.call("POST", "/v1/topics", body, hub=named["hub"]))["id"]

        named["topic"] = await make("Beans", description="And what they climb")
        for name in ("doomed topic", "archived", "to archive", "to restore", "ordered"):
            named[name] = await make(name)
        named["child"] = await make("Onions", parent_id=named["topic"])
        named["memory"] = await push("Plums ripen in August.", tags=["fruit"], hint="About plums")
        for name in ("own", "doomed", "doomed too", "shared", "to assign", "to unassign"):
            named[name] = await push(f"Plums, {name}.")
        named["moved"] = await push("Plums that move.", named["other"])
        for name, topic in (("memory", "topic"), ("to unassign", "ordered")):
            put = {"memory_id": named[name]}
            await client.call("POST", f"/v1/topics/{named[topic]}/memories", put, hub=named["hub"])
        for name in ("archived", "to restore"):
            await client.call("POST", f"/v1/topics/{named[name]}/archive", {}, hub=named["hub"])
        await send_file(client, named)
        for fruit in ("apples", "cherries"):
            # Something for each run to do.
            for end in ("frost", "frost!"):
                await push(f"The season of late {fruit} ends in these parts with the first {end}")
            asked = DreamAsked(run_id=new_id(), space_id=UUID(named["hub"]), asked_by=ada.id)
            await dream(world.house.work, asked)
        yield Scene(http, ada.token, named)


async def send_file(client: Client, named: Named) -> None:
    """As the client does: ask where to, send it there, push what was sent."""
    intent = await client.call("POST", "/v1/uploads", FILE)
    address = urlsplit(intent["upload_url"])
    sent = await client.http.put(
        f"{address.path}?{address.query}", content=b"Plums in a jar", headers=intent["headers"]
    )
    assert sent.is_success
    ref = {name: intent[name] for name in ("object_key", "filename", "content_type", "size_bytes")}
    body = {"content": "", **PUSH, "file_ref": ref}
    filed = msgspec.convert(await client.call("POST", "/v1/memories", body, hub=named["hub"]), types.Memory)
    assert isinstance(filed.attachments, list)
    named["filed"], named["attachment"] = filed.id, filed.attachments[0].id


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_the_client_is_answered_in_its_types(scene: Scene, row: Row) -> None:
    client = scene.client()
    path, body, query, hub = scene.fill([row.path, row.body, row.query, row.hub])
    data = await client.call(row.method, path, body, query=query, hub=hub)
    assert client.status == row.status
    if row.reads is None:
        assert data is None
        return
    found = msgspec.convert(data, type=row.reads)
    assert row.fits(found, scene.named), data


async def test_a_file_comes_as_it_is(scene: Scene) -> None:
    path = scene.fill("/v1/memories/{filed}/attachments/{attachment}/download")
    headers = {"Authorization": f"Bearer {scene.token}", "Content-Type": "application/json"}
    answer = await scene.http.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (200, b"Plums in a jar")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"].startswith("text/plain")


async def frames(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Events as the client's reader takes them: a name, one line of JSON, and an empty line."""
    lines = response.aiter_lines()
    async for first in lines:
        second, blank = await anext(lines), await anext(lines)
        assert first.startswith("event: ") and second.startswith("data: ") and blank == ""
        yield first.removeprefix("event: "), msgspec.json.decode(second.removeprefix("data: "))


async def test_an_answer_is_streamed_in_events(scene: Scene) -> None:
    headers = {
        "Authorization": f"Bearer {scene.token}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream",
        "X-Hub-ID": scene.named["hub"],
    }
    body = {"query": "When do plums ripen?", "model": "auto"}
    async with scene.http.stream("POST", "/v1/ask", json=body, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = [event async for event in frames(response)]
    (first, sources), *deltas, (last, done) = told
    assert first == "sources" and msgspec.convert(sources, list[types.RecalledMemory])
    assert {name for name, _ in deltas} == {"delta"} and last == "done"
    assert "Plums ripen in August" in "".join(delta["text"] for _, delta in deltas)
    assert isinstance(done["tokens"], int) and isinstance(done["model"], str)


async def test_a_change_is_told_in_one_line(scene: Scene) -> None:
    hub = scene.named["hub"]
    headers = {
        "Authorization": f"Bearer {scene.token}",
        "Accept": "text/event-stream",
        "Content-Type": "application/json",
        "X-Hub-ID": hub,
    }
    address = f"/v1/events/stream?hub_id={hub}"
    async with scene.http.stream("GET", address, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        heard = frames(response)
        name, ready = await anext(heard)
        assert (name, ready["hub_ids"]) == ("ready", [hub])
        made = await scene.client().call("POST", "/v1/memories", {"content": "News.\nMore.", **PUSH}, hub=hub)
        name, told = await anext(heard)
        event = msgspec.convert(told, types.Event)
        assert (name, event.type, event.hub_id) == ("hub.memories.changed", "hub.memories.changed", hub)
        assert (event.entity_id, event.state) == (made["id"], "active")
