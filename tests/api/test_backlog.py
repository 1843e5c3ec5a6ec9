"""The backlog: open to everybody, within limits, unless the operator closed it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from guildhall.backlog import restore_item
from guildhall.spaces.seats import as_uuid
from tests import cluster as clusters
from tests.world import World, open_world, settings_for

NOBODY = "018f0000-0000-7000-8000-000000000000"
ITEM = {"title": "Show who pinned", "type": "feature", "priority": "low", "session": "web"}


async def put(world: World, **fields: Any) -> dict[str, Any]:
    return (await world.nobody.post("/api/backlog", ITEM | fields)).ok(201)


async def titles(world: World, query: str = "") -> list[str]:
    return [item["title"] for item in (await world.nobody.get(f"/api/backlog{query}")).ok()["items"]]


async def test_anybody_puts_an_item_on_the_backlog_and_reads_it(world: World) -> None:
    made = await put(world, title="  Dark mode ", description="", apiEndpoint="GET /api/posts")
    assert made == {
        "id": made["id"],
        "title": "Dark mode",
        "type": "feature",
        "priority": "low",
        "session": "web",
        "description": None,
        "apiEndpoint": "GET /api/posts",
        "status": "open",
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    page = (await world.nobody.get("/api/backlog?limit=1")).ok()
    assert page["items"] == [made]
    assert page.keys() == {"items", "page", "limit", "total", "hasMore", "nextCursor"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"title": "x" * 200, "description": "d" * 5000, "apiEndpoint": "e" * 200}, None),
        ({"title": "x" * 201}, {"/title": "too_long"}),
        ({"title": " "}, {"/title": "too_short"}),
        ({"description": "d" * 5001}, {"/description": "too_long"}),
        ({"apiEndpoint": "e" * 201}, {"/apiEndpoint": "too_long"}),
        ({"type": "wish", "priority": "urgent"}, {"/type": "not_allowed", "/priority": "not_allowed"}),
        ({"session": "cli", "status": "closed"}, {"/session": "not_allowed", "/status": "not_allowed"}),
        ({"title": None, "status": None}, {"/title": "type", "/status": "type"}),
        ({"status": "in-progress", "session": "account-portal", "type": "question"}, None),
    ],
)
async def test_the_limits_of_an_item(
    world: World, fields: dict[str, Any], problem: dict[str, str] | None
) -> None:
    made = await put(world)
    for reply in (
        await world.nobody.post("/api/backlog", ITEM | fields),
        await world.nobody.patch(f"/api/backlog/{made['id']}", fields),
    ):
        if problem is None:
            assert {name: reply.ok()[name] for name in fields} == fields
        else:
            assert (reply.status, reply.fields) == (400, problem)


async def test_an_item_is_changed_field_by_field(world: World) -> None:
    made = await put(world, description="Long", apiEndpoint="GET /")
    url = f"/api/backlog/{made['id']}"

    changed = (await world.nobody.patch(url, {"status": "done", "description": None})).ok()
    assert changed == made | {"status": "done", "description": None, "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > made["updatedAt"]
    assert (await world.nobody.patch(url, {})).ok() == changed
    assert (
        await world.nobody.patch(url, {"id": NOBODY, "createdAt": "2001-01-01T00:00:00Z"})
    ).ok() == changed
    for missing in (NOBODY, "nonsense", "1"):
        assert (await world.nobody.patch(f"/api/backlog/{missing}", {"title": ""})).error == "not_found"


async def test_a_deleted_item_is_gone_until_the_operator_brings_it_back(world: World) -> None:
    made = await put(world, title="Gone tomorrow")
    url = f"/api/backlog/{made['id']}"

    assert (await world.nobody.delete(url)).status == 204
    assert (await world.nobody.delete(url)).error == "not_found"
    assert (await world.nobody.patch(url, {"title": "x"})).error == "not_found"
    assert await titles(world, "?q=gone+tomorrow") == []
    item_id = as_uuid(made["id"])
    assert item_id is not None
    async with world.db.writing() as tx:
        assert await restore_item(tx, item_id)
        assert not await restore_item(tx, item_id)
    assert await titles(world, "?q=gone+tomorrow") == ["Gone tomorrow"]
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE backlog_items SET deleted_at = now() - interval '31 days' WHERE id = $1", item_id
        )
        assert not await restore_item(tx, item_id)


async def test_every_change_of_the_backlog_is_audited(world: World) -> None:
    made = await put(world)
    url = f"/api/backlog/{made['id']}"
    (await world.nobody.patch(url, {"status": "in-progress"})).ok()
    (await world.nobody.delete(url)).ok()

    async with world.db.reading() as read:
        rows = await read.connection.fetch(
            "SELECT action, actor, request_id FROM audit WHERE target = $1 ORDER BY id", made["id"]
        )
    assert [row["action"] for row in rows] == ["backlog.create", "backlog.update", "backlog.delete"]
    assert all(row["actor"] is None and row["request_id"] for row in rows)


async def test_the_backlog_is_searched_by_exactly_what_is_typed_and_by_its_fields(world: World) -> None:
    await put(world, title="Save 100% of it", type="bug", priority="high", session="mobile")
    await put(world, title="Save 100 of it", description="Under_score", status="done")

    assert await titles(world, "?q=100%25") == ["Save 100% of it"]
    assert await titles(world, "?q=SAVE%20100") == ["Save 100 of it", "Save 100% of it"]
    assert await titles(world, "?q=der_sc") == ["Save 100 of it"]
    assert await titles(world, "?q=d_e") == []
    assert await titles(world, "?q=%5C") == []
    assert await titles(world, "?q=save&type=bug&priority=high&session=mobile") == ["Save 100% of it"]
    assert await titles(world, "?q=save&status=done") == ["Save 100 of it"]
    assert (await world.nobody.get("/api/backlog?q=save&status=done")).ok()["total"] == 1
    for bad in ("status=closed", "type=x", "priority=x", "session=x", "limit=0", "limit=101", "page=0"):
        assert (await world.nobody.get(f"/api/backlog?{bad}")).fields.keys() == {"?" + bad.split("=")[0]}, bad
    assert (await world.nobody.get("/api/backlog?q=" + "x" * 513)).status == 400
    assert (await world.nobody.get("/api/backlog?cursor=x")).fields == {"?cursor": "invalid_cursor"}
    assert (await world.nobody.get("/api/backlog?page=2000&limit=100")).fields == {"?page": "too_deep"}


async def test_pages_and_cursors_of_the_backlog_make_the_same_whole_also_through_ties(world: World) -> None:
    mark = (await put(world))["id"]
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO backlog_items (id, title, type, priority, session, created_at)"
            " SELECT gen_random_uuid(), $1, 'bug', 'low', 'api',"
            "        timestamptz '2026-01-01' + (n % 2) * interval '1 second'"
            "   FROM generate_series(1, 7) AS n",
            mark,
        )
    base = f"/api/backlog?q={mark}"
    whole = (await world.nobody.get(f"{base}&limit=100")).ok()["items"]
    assert whole == sorted(whole, key=lambda item: (item["createdAt"], item["id"]), reverse=True)
    assert len(whole) == 7
    pages = [(await world.nobody.get(f"{base}&limit=3&page={n}")).ok() for n in (1, 2, 3, 4)]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]
    assert [item for page in pages for item in page["items"]] == whole
    seen: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = (await world.nobody.get(f"{base}&limit=3{cursor}")).ok()
        assert page["total"] == 7
        seen += page["items"]
        cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
    assert seen == whole


async def test_a_closed_backlog_is_read_and_not_written(
    cluster: clusters.Cluster, database: str, tmp_path: Path, world: World
) -> None:
    made = await put(world)
    settings = settings_for(tmp_path, clusters.app_url(cluster, database), database, BACKLOG_WRITES="closed")
    async with open_world(settings) as closed:
        assert (await closed.nobody.get("/api/backlog")).status == 200
        url = f"/api/backlog/{made['id']}"
        for reply in (
            await closed.nobody.post("/api/backlog", ITEM),
            await closed.nobody.post("/api/backlog", {}),
            await closed.nobody.patch(url, {"title": ""}),
            await closed.nobody.delete(url),
        ):
            assert (reply.status, reply.error) == (403, "backlog_closed")
        assert (await closed.nobody.delete(f"/api/backlog/{NOBODY}")).error == "not_found"


async def test_one_address_writes_ten_times_a_minute(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    url = await clusters.clone_database(cluster, template)
    try:
        settings = settings_for(tmp_path, clusters.app_url(cluster, url), url, RATE_LIMIT_SCALE="1")
        async with open_world(settings) as limited:
            # What is refused for its form costs nothing.
            assert (await limited.nobody.post("/api/backlog", {})).status == 400
            made = await put(limited)
            path = f"/api/backlog/{made['id']}"
            for _ in range(8):
                (await limited.nobody.patch(path, {"status": "done"})).ok()
            (await limited.nobody.delete(path)).ok()
            refused = await limited.nobody.post("/api/backlog", ITEM)
            assert (refused.status, refused.error) == (429, "rate_limited")
            assert int(refused.headers["Retry-After"]) >= 1
            assert (await limited.nobody.get("/api/backlog")).ok()["total"] == 0
    finally:
        await clusters.drop_database(cluster, url)


async def test_the_backlog_holds_ten_thousand_open_items_also_when_asked_at_once(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    url = await clusters.clone_database(cluster, template)
    try:
        async with open_world(settings_for(tmp_path, clusters.app_url(cluster, url), url)) as full:
            async with full.db.writing() as tx:
                await tx.run(
                    "INSERT INTO backlog_items (id, title, type, priority, session)"
                    " SELECT gen_random_uuid(), 'x', 'bug', 'low', 'api' FROM generate_series(1, 9998)"
                )
            replies = await asyncio.gather(*(full.nobody.post("/api/backlog", ITEM) for _ in range(5)))
            assert sorted(r.status for r in replies) == [201, 201, 429, 429, 429]
            assert {r.error for r in replies} == {None, "backlog_full"}
            made = next(r.json for r in replies if r.status == 201)
            path = f"/api/backlog/{made['id']}"
            (await full.nobody.patch(path, {"status": "done"})).ok()
            again = await put(full)
            assert (await full.nobody.patch(path, {"status": "open"})).error == "backlog_full"
            (await full.nobody.delete(f"/api/backlog/{again['id']}")).ok()
            (await full.nobody.patch(path, {"status": "open"})).ok()
    finally:
        await clusters.drop_database(cluster, url)
