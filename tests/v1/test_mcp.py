"""`/mcp`: agents with the official client recall, push and list what their key may, and nothing else."""

import json
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import msgspec
import pytest
from mcp import Client, MCPError, types
from mcp.client.streamable_http import streamable_http_client

from guildhall.mcp import arguments
from guildhall.mcp.tools import TOOLS
from guildhall.memories.recall_schemas import Recall
from guildhall.memories.schemas import PushMemory
from tests.v1.client import listening
from tests.v1.test_memories import at, key_of, push
from tests.world import Browser, World, open_world

ERAS = ("legacy", "auto")
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


class Agent:
    """A session of the official client. `use` answers what a tool does, or the code of its refusal."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def use(self, tool: str, **given: Any) -> Any:
        result = await self.client.call_tool(tool, given)
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        assert json.loads(content.text) == result.structured_content
        assert result.structured_content is not None
        return result.structured_content["error"]["code"] if result.is_error else result.structured_content

    async def recall(self, query: str, **more: Any) -> list[str]:
        return [memory["title"] for memory in (await self.use("recall", query=query, **more))["memories"]]


@asynccontextmanager
async def agent(http: httpx.AsyncClient, browser: Browser, mode: str = "auto") -> AsyncIterator[Agent]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {browser.token}"}) as carried:
        transport = streamable_http_client(f"{http.base_url}/mcp", http_client=carried)
        async with Client(transport, mode=mode) as client:
            yield Agent(client)


@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_keeps_and_finds_by_any_version_of_the_protocol(world: World, mode: str) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada, name="Orchard")
    key = await key_of(ada, agent_name="scout")
    async with listening(world) as http, agent(http, key, mode) as scout:
        info = scout.client.server_info
        assert info is not None and info.name == "guildhall"
        assert "Recall" in (scout.client.instructions or "")
        assert await scout.tools() == list(TOOLS)
        hubs = (await scout.use("hubs"))["hubs"]
        assert [(row["name"], row["role"]) for row in hubs] == [("Memory Hub", "owner"), ("Orchard", "owner")]
        kept = await scout.use(
            "push", content="Quinces ripen in October.", hub=hub.body["slug"], tags=["fruit"]
        )
        assert kept["is_new"] and kept["memory"]["hub_id"] == hub.id
        found = (await scout.use("recall", query="When do quinces ripen?"))["memories"]
        assert [memory["id"] for memory in found] == [kept["memory"]["id"]]
        assert found[0]["reasons"]["terms"][0] == "quinc"
        listed = await scout.use("list", hub=hub.id, limit=5)
        assert [memory["id"] for memory in listed["memories"]] == [kept["memory"]["id"]]
        assert "content" not in listed["memories"][0] and listed["total"] == 1
        whole = (await scout.use("get", id=kept["memory"]["id"]))["memory"]
        assert (whole["content"], whole["source"], whole["source_agent"]) == (
            "Quinces ripen in October.",
            "mcp",
            "scout",
        )
        assert (await scout.use("list", hub="personal"))["memories"] == []
        root = (await ada.post("/v1/topics", {"name": "Fruit", "hub_id": hub.id})).data(201)
        under = {"name": "Quinces", "hub_id": hub.id, "parent_id": root["id"]}
        child = (await ada.post("/v1/topics", under)).data(201)
        tree = await scout.use("topics", hub=hub.id)
        assert [topic["name"] for topic in tree["topics"]] == ["Fruit"]
        assert [topic["id"] for topic in tree["topics"][0]["children"]] == [child["id"]]
        assert tree["unassigned_count"] == 1
        assert await scout.use("topics") == {"topics": [], "unassigned_count": 0}


async def test_a_tool_takes_what_its_call_takes_and_refuses_all_else(world: World) -> None:
    ada = await world.person("ada")
    # Every argument but those that say which hub is a field of the call.
    for taken, sent, elsewhere in (
        (arguments.Push, PushMemory, {"hub"}),
        (arguments.Recall, Recall, {"hub", "hubs"}),
    ):
        assert set(taken.__struct_fields__) - elsewhere <= set(sent.__struct_fields__)
    async with listening(world) as http, agent(http, await key_of(ada)) as scout:
        for tool in (await scout.client.list_tools()).tools:
            assert tool.input_schema["additionalProperties"] is False, tool.name
            assert all("description" in field for field in tool.input_schema["properties"].values())
        for tool, given, code in (
            ("push", {}, "invalid_arguments"),
            ("push", {"content": 5}, "invalid_arguments"),
            ("push", {"content": "x", "colour": "red"}, "invalid_arguments"),
            ("push", {"content": ""}, "missing_content"),
            ("push", {"content": "x", "occurred_at": "soon"}, "invalid_occurred_at"),
            ("push", {"content": "x", "hub": "no-such-hub"}, "not_member"),
            ("recall", {"query": " "}, "missing_query"),
            ("recall", {"query": "x", "created_after": "soon"}, "invalid_created"),
            ("recall", {"query": "x", "kind": "gossip"}, "invalid_arguments"),
            ("recall", {"query": "x", "hubs": ["personal", "no-such-hub"]}, "not_member"),
            ("recall", {"query": "x", "hub": secrets.token_hex(8)}, "not_member"),
            ("list", {"topic_id": "x"}, "invalid_topic_id"),
            ("list", {"hub": "no-such-hub"}, "not_member"),
            ("list", {"cursor": "x"}, "invalid_cursor"),
            ("topics", {"hub": "no-such-hub"}, "not_member"),
            ("get", {"id": "x"}, "not_found"),
            ("hubs", {"all": True}, "invalid_arguments"),
        ):
            assert await scout.use(tool, **given) == code, (tool, given)
        with pytest.raises(MCPError):
            await scout.client.call_tool("forget", {})


async def test_a_key_uses_the_tools_that_it_holds_the_permissions_for(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    async with listening(world) as http:
        async with agent(http, await key_of(ada, scopes=["read"])) as reader:
            assert await reader.tools() == ["recall", "list", "get", "topics", "hubs"]
            assert await reader.use("push", content="x") == "permission_denied"
        async with agent(http, await key_of(ada, scopes=["hub:read"])) as narrow:
            assert await narrow.tools() == ["hubs"]
            for tool, given in (
                ("recall", {"query": "x"}),
                ("list", {}),
                ("get", {"id": hub.id}),
                ("topics", {}),
            ):
                assert await narrow.use(tool, **given) == "permission_denied"
        async with agent(http, await key_of(bo)) as viewer:
            assert await viewer.use("push", content="x", hub=hub.id) == "no_write_access"
        # A session may all that its person may.
        async with agent(http, ada) as herself:
            assert (await herself.use("push", content="By hand", hub=hub.id))["is_new"]


async def test_nothing_of_a_hub_that_the_key_cannot_read_comes_through_any_tool(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub, other = await world.hub(ada, viewers=[bo]), await world.hub(bo)
    canary = "canary" + secrets.token_hex(6)
    made = await push(ada, f"The {canary} sings", hub, thread_id="t", seq=1)
    topic = {"name": f"The {canary} and others", "hub_id": hub.id}
    (await ada.post("/v1/topics", topic)).data(201)

    async def heard(who: Agent) -> list[str]:
        """The tools that told it. What was asked for may be said again; what was stored may not be."""
        told: list[str] = []
        for tool, given in (
            ("recall", {"query": f"{canary} sings"}),
            ("recall", {"query": f"{canary} sings", "hubs": [hub.id]}),
            ("list", {}),
            ("list", {"hub": hub.id}),
            ("get", {"id": made["id"]}),
            ("topics", {"hub": hub.id}),
            ("topics", {}),
            ("hubs", {}),
            ("push", {"content": f"The {canary} sings"}),
        ):
            answer = json.dumps(await who.use(tool, **given))
            told += [tool] if f"The {canary}" in answer or hub.id in answer else []
        return told

    async with listening(world) as http:
        async with agent(http, await key_of(bo)) as member:
            assert await heard(member) == ["recall", "recall", "list", "get", "topics", "hubs", "push"]
            (await bo.post(f"{hub.url}/leave", {})).ok(200)
            # What bo pushed is bo's own now.
            assert set(await heard(member)) == {"recall", "list", "push"}
            assert hub.id not in json.dumps(await member.use("recall", query=canary))
            assert await member.use("get", id=made["id"]) == "not_found"
        await world.join(hub.id, bo, "viewer")
        async with agent(http, await key_of(bo, hub_ids=[other.id])) as limited:
            assert [row["id"] for row in (await limited.use("hubs"))["hubs"]] == [other.id]
            assert await limited.use("get", id=made["id"]) == "not_found"
            assert await limited.use("list", hub=hub.id) == "not_member"
            assert await limited.use("push", content="x", hub=hub.id) == "not_member"
            assert await limited.recall(canary) == []
        async with agent(http, await key_of(eve, scopes=["read"])) as stranger:
            assert await heard(stranger) == []


async def test_what_a_key_was_shown_is_not_kept_again_as_if_it_were_new(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    text = "The ferns thrive behind the house, where there is shade all day."
    made = await push(bo, text, hub)
    async with listening(world) as http, agent(http, await key_of(ada)) as scout:
        shown = await scout.use("recall", query="ferns")
        for more in ({"receipt_id": shown["receipt_id"]}, {}):
            again = await scout.use("push", content=text, hub=hub.id, **more)
            assert (again["is_new"], again["memory"]["id"]) == (False, made["id"])
        own = await scout.use("push", content="The ferns have moved to the pond.", hub=hub.id)
        assert own["is_new"]
    assert (await ada.get("/v1/memories", headers=at(hub))).data()["total"] == 2


async def test_who_is_nobody_is_told_so_before_anything_else(world: World) -> None:
    ada = await world.person("ada")
    key = await key_of(ada)
    for token in (None, "mxk_" + "0" * 64, "x"):
        refused = await Browser(world, token).post("/mcp", LIST)
        assert (refused.status, refused.error) == (401, "unauthorized")
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert (await key.post("/mcp", LIST)).ok(200)["result"]["tools"]
    keys = (await ada.get("/v1/auth/api-keys")).data()
    (await ada.delete(f"/v1/auth/api-keys/{keys[0]['id']}")).ok(200)
    call = {"name": "hubs", "arguments": {}}
    for body in (
        LIST,
        LIST | {"method": "tools/call", "params": call},
        LIST | {"method": "tools/call", "params": call | {"arguments": {"x": 1}}},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        [],
    ):
        assert (await key.post("/mcp", body)).status == 401, body


async def test_no_page_elsewhere_and_no_cookie_speaks_for_anybody(world: World) -> None:
    ada = await world.person("ada")
    cookie = {"Cookie": f"__Host-session={ada.token}"}
    for headers in (cookie, cookie | {"Origin": "http://localhost:3002", "Sec-Fetch-Site": "same-origin"}):
        assert (await world.nobody.post("/mcp", LIST, headers=headers)).status == 401
    for origin in ("https://evil.example", "null", "http://localhost:3003"):
        assert (await ada.post("/mcp", LIST, headers={"Origin": origin})).error == "forbidden"
    assert (await ada.post("/mcp", LIST, headers={"Origin": "http://localhost:3002"})).status == 200


async def test_what_is_no_message_is_refused_and_nothing_is_kept_open(world: World) -> None:
    ada = await world.person("ada")
    post = LIST | {"method": "tools/call"}
    for content, status in (
        (b"{", 400),
        (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "tools/list"}', 400),
        (b'{"jsonrpc": "2.0", "id": NaN, "method": "tools/list"}', 400),
        (json.dumps([LIST, LIST]).encode(), 400),
        (json.dumps(post | {"params": {"name": "hubs", "arguments": "x"}}).encode(), 200),
        (json.dumps(post | {"params": 5}).encode(), 400),
        (b"x" * (3 * 1024 * 1024 + 1), 413),
    ):
        headers = {"Content-Type": "application/json"}
        refused = await ada.call("POST", "/mcp", content=content, headers=headers)
        assert refused.status == status, (content[:80], refused)
        assert status != 200 or refused.json["error"]["code"] == types.INVALID_PARAMS
    for method in ("GET", "DELETE"):
        refused = await ada.call(method, "/mcp")
        assert refused.status == 405 and "GET" not in refused.headers["allow"]
    text = await ada.call("POST", "/mcp", content=b"{}", headers={"Content-Type": "text/plain"})
    assert text.status == 415


async def test_an_agent_reads_why_its_arguments_never_came_to_the_tool(world: World) -> None:
    ada = await world.person("ada")
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    for given, reason in (
        ({"content": "a\x00b"}, "U+0000"),
        ({"content": deep}, "deep"),
        ({"content": "\ud800"}, "surrogate"),
    ):
        call = {"name": "push", "arguments": given}
        body = json.dumps(LIST | {"id": 9, "method": "tools/call", "params": call}).encode()
        answer = await ada.call("POST", "/mcp", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.json["id"]) == (200, 9)
        result = answer.json["result"]
        assert result["isError"] is True
        assert reason in result["content"][0]["text"], result
        assert result["structuredContent"]["error"]["code"] == "invalid"
    assert (await ada.get("/v1/memories")).data(200)["memories"] == []


ODD: list[Any] = [
    *(None, True, -1, 1.5, 10**19, "", "x", [], {}, [1], {"a": 1}, {"name": 5}, {"_meta": 5}, {"cursor": 5}),
    *({"name": "recall", "arguments": []}, {"name": "push", "arguments": {"content": {}}}, {"name": "x"}),
    {"protocolVersion": "1", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
]
METHODS = ["tools/list", "tools/call", "initialize", "ping", "server/discover", "resources/list", "x", ""]
METHODS += ["subscriptions/listen", "logging/setLevel", "notifications/cancelled", "completion/complete"]


async def test_no_message_whatever_breaks_it_or_waits_for_ever(world: World) -> None:
    key = await key_of(await world.person("ada"))
    pick = random.Random(7).choice
    for _ in range(300):
        body = {"jsonrpc": "2.0", "method": pick(METHODS), "id": pick(ODD), "params": pick(ODD)}
        for absent in (pick(("id", "", "")), pick(("params", "", ""))):
            body.pop(absent, None)
        headers = {
            "Accept": pick(("application/json", "application/json, text/event-stream", "*/*", "x")),
            "MCP-Protocol-Version": pick(("2025-06-18", "2024-11-05", "2026-07-28", "2099-01-01", "x")),
            "Mcp-Method": pick(METHODS) or "x",
            "Mcp-Session-Id": "x",
        }
        answer = await key.post("/mcp", body, headers=headers)
        assert answer.status in (200, 202, 400, 404, 406), (body, headers, answer)


async def test_an_agent_that_waits_holds_nothing(world: World) -> None:
    ada = await world.person("ada")
    async with listening(world) as http, agent(http, await key_of(ada)) as scout:
        await scout.use("hubs")
        before = world.db.trips
        assert not world.db._reads._lent | world.db._writes._lent
        await scout.client.list_tools()
        assert not world.db._reads._lent | world.db._writes._lent
        assert world.db.trips <= before + 1


async def test_a_tool_has_the_limits_and_quotas_of_its_call(world: World, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        world.house.settings, rate_limit_scale=1.0, monthly_pushes=2, monthly_recalls=1
    )
    async with open_world(settings) as strict, listening(strict) as http:
        ada = await strict.person("ada")
        key = await key_of(ada)
        async with agent(http, key) as scout:
            for n in range(2):
                assert (await scout.use("push", content=f"Note {n}"))["is_new"]
            assert await scout.use("push", content="Note 3") == "quota_exceeded"
            assert await scout.recall("note") == ["Note 1", "Note 0"]
            assert await scout.use("recall", query="note") == "quota_exceeded"
            # What REST has used up is used up here.
            limiter = strict.house.service.limiter
            for _ in range(58):
                limiter.take("search", ada.id)
            assert await scout.use("recall", query="note") == "rate_limited"
            assert (await ada.post("/v1/recall", {"query": "note"})).error == "rate_limited"
            assert (await scout.use("hubs"))["hubs"]
