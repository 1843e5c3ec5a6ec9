"""Every call of the official client about memories, as it makes it, over a real socket and one after another.

Each answer is also what the published document says.
"""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import pytest

from guildhall.web.openapi import V1, describe
from guildhall.wiring import ROUTES
from tests.v1.client import PUSH, Client, ClientError, listening
from tests.world import World

DOCUMENT = describe(ROUTES, V1)
MEMORY = {"id", "hub_id", "owner_id", "title", "content", "content_type", "content_hash", "summary", "kind"}
MEMORY |= {"stability", "retrieval_weight", "tags", "boundary", "state", "pinned", "source", "version"}
MEMORY |= {"access_count", "shown_count", "created_at", "updated_at", "accessed_at"}
RECALLED = {"id", "title", "chunk_content", "heading_chain", "relevance_score", "kind", "stability", "source"}
RECALLED |= {"age", "created_at", "author_name", "hub_id", "hub_name"}
RESULT = {"memory_id", "title", "snippet", "kind", "stability"}
INTENT = {"object_key", "upload_url", "headers", "filename", "content_type", "size_bytes", "purpose"}
INTENT |= {"max_bytes", "expires_in"}
PUSHED: dict[str, Any] = {"content": "Plums ripen in August.", **PUSH}
FILE = {
    "filename": "a.txt",
    "content_type": "text/plain",
    "size_bytes": 6,
    "purpose": "memory_attachment",
}


class Checked:
    """The client, whose every answer is held against the document."""

    def __init__(self, client: Client, hub: str) -> None:
        self.client = client
        self.hub = hub

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        status: int = 200,
        *,
        plain: bool = False,
        **named: str,
    ) -> Any:
        filled = path.format_map(named)
        data = await self.client.call(method, filled, body, hub=self.hub)
        assert self.client.status == status, (path, self.client.status)
        if status != 204:
            self._check(method, path.partition("?")[0], status, data)
        return data

    def _check(self, method: str, path: str, status: int, data: Any) -> None:
        answer = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
        schema = answer["content"]["application/json"]["schema"]
        validator = jsonschema_rs.Draft202012Validator(
            {**schema, "components": DOCUMENT["components"]}, validate_formats=True
        )
        problems = [error.message for error in validator.iter_errors({"data": data})]
        assert not problems, (path, problems)


async def test_the_client_uses_a_hubs_memory_from_one_end_to_the_other(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    async with listening(world) as http:
        client = Client(http, ada.token)
        call = Checked(client, hub.id)
        made = await call("POST", "/v1/memories", PUSHED, 201)
        assert made.keys() >= MEMORY and made["hub_id"] == hub.id
        assert (await call("POST", "/v1/memories", PUSHED))["id"] == made["id"]
        one = made["id"]
        two = (await call("POST", "/v1/memories", PUSHED | {"content": "Plums fall in September."}, 201))[
            "id"
        ]

        recalled = await call("POST", "/v1/recall", {"query": "plums", "limit": 10, "source": "sdk"})
        assert recalled.keys() >= {"memories", "query_metadata"}
        assert all(memory.keys() >= RECALLED for memory in recalled["memories"])
        meta = recalled["query_metadata"]
        assert meta.keys() >= {"intent", "kinds_searched", "total_candidates", "latency_ms"}
        asked = await call("POST", "/v1/ask", {"query": "When do plums ripen?", "model": "auto"})
        assert asked.keys() == {"answer", "citations", "sources", "metadata"}
        listed = await call(
            "GET", "/v1/memories?limit=1&sort=newest&kind=semantic&created_after=7d&actor=all"
        )
        assert listed.keys() >= {"memories", "next_cursor", "has_more", "total", "actors"}
        found = await call("GET", "/v1/memories/search?q=plum&limit=5")
        assert found and all(row.keys() >= RESULT for row in found)
        whole = await call("GET", "/v1/memories/{memory_id}", memory_id=one)
        assert whole.keys() >= MEMORY | {"lifecycle"}
        assert await call("POST", "/v1/memories/{memory_id}/access", None, 204, memory_id=one) is None
        (related,) = await call("GET", "/v1/memories/{memory_id}/related", memory_id=one)
        assert related.keys() == {"memory", "similarity"}
        changed = await call("PATCH", "/v1/memories/{memory_id}", {"title": "Plums"}, memory_id=one)
        assert changed["version"] == 2
        bar = await call("GET", "/v1/bar/search?q=plum&limit=5")
        assert bar.keys() == {"query", "memories", "topics", "hubs"}

        intent = await call("POST", "/v1/uploads", FILE)
        assert intent.keys() == INTENT
        address = urlsplit(intent["upload_url"])
        sent = await http.put(f"{address.path}?{address.query}", content=b"A text", headers=intent["headers"])
        assert sent.status_code == 204
        ref = {name: intent[name] for name in ("object_key", "filename", "content_type", "size_bytes")}
        filed = await call("POST", "/v1/memories", PUSHED | {"content": "", "file_ref": ref}, 201)
        (file,) = filed["attachments"]
        place = f"/v1/memories/{filed['id']}/attachments/{file['id']}"
        raw = await http.get(f"{place}/download", headers={"Authorization": f"Bearer {ada.token}"})
        assert raw.content == b"A text"
        path = "/v1/memories/{memory_id}/attachments/{attachment_id}/view-url"
        seen = await call("POST", path, None, memory_id=filed["id"], attachment_id=file["id"])
        assert seen.keys() == {"url", "expires_at"}

        shared = await call(
            "POST", "/v1/memories/{memory_id}/share", {"target_hub_id": other.id}, memory_id=one
        )
        assert shared["hub_id"] == other.id
        moved = await call("POST", "/v1/memories/batch-move", {"ids": [one], "hub_id": hub.id})
        assert moved == {"moved": 1, "skipped": []}
        assert (await call("DELETE", "/v1/memories/{memory_id}", memory_id=one)) == {"deleted": True}
        gone = await call("POST", "/v1/memories/batch-delete", {"ids": [two, one]})
        assert gone == {"deleted": 1, "skipped": [{"id": one, "reason": "not_found"}]}
        assert (await call("DELETE", "/v1/account/data")) == {"deleted": True}
        with pytest.raises(ClientError) as caught:
            await client.call("GET", f"/v1/memories/{filed['id']}")
        assert (caught.value.status, caught.value.code) == (404, "not_found")


async def test_recall_never_shows_a_hub_after_the_membership_in_it(world: World) -> None:
    """Members come and go while they recall: what they are shown, they were members for at that time."""
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada)
    body = {"content": "The canary sings at dawn."}
    (await ada.post("/v1/memories", body, headers={"X-Hub-ID": hub.id})).data(201)
    member = {"user_id": bo.id, "role": "viewer"}
    leaks = 0

    async def look() -> None:
        for _ in range(15):
            found = (await bo.post("/v1/recall", {"query": "canary"})).data()
            assert len(found["memories"]) <= 1
            await asyncio.sleep(0)

    async def come_and_go() -> None:
        nonlocal leaks
        for _ in range(10):
            (await ada.post(f"{hub.url}/members", member)).data(200)
            (await ada.delete(f"{hub.url}/members/{bo.id}")).data(200)
            # Removed and not yet added again: nothing is shown from here on.
            for path, asked in (("/v1/recall", {"query": "canary"}), ("/v1/ask", {"query": "canary"})):
                leaks += "sings at dawn" in (await bo.post(path, asked)).response.text
            for path in ("/v1/memories/search?q=canary", "/v1/bar/search?q=canary"):
                leaks += "sings at dawn" in (await bo.get(path)).response.text

    await asyncio.gather(come_and_go(), look(), look())
    assert leaks == 0
