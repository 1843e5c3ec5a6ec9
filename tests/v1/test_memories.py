"""Memories: pushed, found again, changed, moved, deleted, and never shown to whoever is not in their hub."""

import asyncio
import secrets
from typing import Any

import msgspec
import pytest

from guildhall.memories.jobs import clear_remains
from guildhall.spaces.jobs import RemainsLeft
from tests.world import Browser, Hub, Person, World, open_world

MISSING = "018f0000-0000-7000-8000-000000000000"


def at(hub: Hub | str) -> dict[str, str]:
    return {"X-Hub-ID": hub if isinstance(hub, str) else hub.id}


async def push(person: Browser, content: str, hub: Hub | None = None, **more: Any) -> dict[str, Any]:
    headers = at(hub) if hub else {}
    return (await person.post("/v1/memories", {"content": content, **more}, headers=headers)).data(201)


async def list_ids(person: Browser, hub: Hub | None = None, query: str = "") -> list[str]:
    reply = await person.get("/v1/memories" + query, headers=at(hub) if hub else {})
    return [memory["id"] for memory in reply.data()["memories"]]


async def counts(person: Person, hub: Hub) -> tuple[int, int, int]:
    """Memories in the list of hubs, in the summary, and those without a topic."""
    rows = {row["hub"]["id"]: row["memory_count"] for row in (await person.get("/v1/hubs")).data()}
    stats = (await person.get(f"{hub.url}/summary")).data()["stats"]
    return rows[hub.id], stats["memories"], stats["inbox"]


async def key_of(person: Person, **fields: Any) -> Browser:
    made = (await person.post("/v1/auth/api-keys", {"name": "Key", **fields})).data(201)
    return Browser(person.world, made["key"])


async def test_a_pushed_memory_is_whole_and_in_one_s_own_hub_where_none_is_named(world: World) -> None:
    ada = await world.person("ada")
    made = await push(
        ada,
        "# Tomatoes\nWater them in the morning.",
        title="<b>Water</b> tomatoes",
        hint="  when   it is dry ",
        tags=["garden", "garden", " "],
        source="cli",
        source_path="notes/tomatoes.md",
        project_context={"repo": "garden"},
        occurred_at="2023-05-08T12:00:00+02:00",
        thread_id="t1",
        seq=4,
        speaker="Ada Lovelace",
    )
    assert made["title"], made["hint"] == ("Water tomatoes", "when it is dry")
    assert (made["content_type"], made["kind"], made["stability"]) == ("markdown", "episodic", "evolving")
    assert (made["tags"], made["version"], made["state"], made["boundary"]) == (
        ["garden"],
        1,
        "active",
        "private",
    )
    assert (made["access_count"], made["shown_count"], made["pinned"]) == (0, 0, False)
    assert (made["occurred_at"], made["thread_id"], made["seq"]) == ("2023-05-08T10:00:00.000000Z", "t1", 4)
    assert (made["speaker"], made["project_context"]) == ("Ada Lovelace", {"repo": "garden"})
    assert (made["author_name"], made["hub_name"]) == ("ada", "Memory Hub")
    assert made["provenance"]["created_by_type"] == "human"
    assert made["provenance"]["initiation_type"] == "human_direct"
    read = (await ada.get(f"/v1/memories/{made['id']}")).data()
    assert read.pop("lifecycle") == {"pending_dream_action": None, "dream_history": []}
    assert read == made
    assert await list_ids(ada) == [made["id"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": ""}, "missing_content"),
        ({}, "missing_content"),
        ({"content": 5}, "invalid_json"),
        ({"content": "x", "tags": ["t" * 101]}, "invalid_tags"),
        ({"content": "x", "occurred_at": "yesterday"}, "invalid_occurred_at"),
        ({"content": "x", "seq": 3}, "invalid_thread"),
        ({"content": "x", "project_context": {"dir": "d" * 1025}}, "invalid_project_context"),
        ({"content": "x", "project_context": {"d" * 101: ""}}, "invalid_project_context"),
        ({"content": "x", "project_context": {f"k{n}": "" for n in range(33)}}, "invalid_project_context"),
        ({"content": "x", "source_agent": "a", "assisted_by_agent": "b"}, "conflicting_attribution_fields"),
        ({"content": "x", "assisted_by_agent": "nobody"}, "unknown_collaborator_agent"),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, body: dict[str, Any], code: str) -> None:
    ada = await world.person("ada")
    assert (await ada.post("/v1/memories", body)).error == code
    assert await list_ids(ada) == []


async def test_the_same_again_is_the_same_memory_for_each_author_and_hub(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub, other = await world.hub(ada, contributors=[bo]), await world.hub(ada)
    first = await push(ada, "Beans climb.", hub)
    again = await ada.post("/v1/memories", {"content": "Beans climb."}, headers=at(hub))
    assert again.data(200)["id"] == first["id"]
    assert (await push(bo, "Beans climb.", hub))["id"] != first["id"]
    assert (await push(ada, "Beans climb.", other))["id"] != first["id"]

    filed = await push(ada, "Peas, too.", hub, source_path="peas.md")
    same = await ada.post(
        "/v1/memories", {"content": "Peas, too.", "source_path": "peas.md"}, headers=at(hub)
    )
    assert (same.data(200)["id"], same.data(200)["version"]) == (filed["id"], 1)
    changed = (
        await ada.post(
            "/v1/memories", {"content": "Peas as well.", "source_path": "peas.md"}, headers=at(hub)
        )
    ).data(200)
    assert (changed["id"], changed["version"], changed["content"]) == (filed["id"], 2, "Peas as well.")
    versions = (await ada.get(f"/v1/memories/{filed['id']}/versions")).data()["versions"]
    assert [(v["version"], v["is_current"], v["content"]) for v in versions] == [
        (2, True, "Peas as well."),
        (1, False, "Peas, too."),
    ]
    assert await counts(ada, hub) == (3, 3, 3)


async def test_what_comes_again_from_a_path_changes_what_is_sent_and_nothing_else(world: World) -> None:
    ada = await world.person("ada")

    async def again(content: str, **sent: Any) -> dict[str, Any]:
        body = {"content": content, "source_path": "notes/d.md", **sent}
        return (await ada.post("/v1/memories", body)).data(200)

    made = await push(
        ada,
        "dd one",
        source_path="notes/d.md",
        tags=["a"],
        hint="old hint",
        kind="procedural",
        stability="stable",
        project_context={"repo": "r"},
    )
    assert made["title"] == "dd one"
    kept = ("tags", "hint", "kind", "stability", "project_context")
    second = await again("dd two")
    assert second["title"] == "dd two" and [second[name] for name in kept] == [made[name] for name in kept]
    third = await again(
        "dd three", tags=["b"], hint="new hint", kind="rationale", speaker="Bo", thread_id="t", seq=4
    )
    assert (third["tags"], third["hint"], third["kind"], third["title"]) == (
        ["b"],
        "new hint",
        "rationale",
        "dd three",
    )
    assert (third["speaker"], third["thread_id"], third["seq"]) == ("Bo", "t", 4)
    assert (await again("dd four", title="Given"))["title"] == "Given"
    fifth = await again("dd five", thread_id="t")
    assert (fifth["title"], fifth["seq"], fifth["version"]) == ("Given", 4, 5)
    by_hand = await ada.patch(f"/v1/memories/{made['id']}", {"title": "My title"})
    assert by_hand.data()["title"] == "My title"
    assert (await again("dd six"))["title"] == "My title"
    assert len(await list_ids(ada)) == 1
    # What was pushed without a path before comes from it now.
    loose = await push(ada, "Loose")
    filed = await ada.post("/v1/memories", {"content": "Loose", "source_path": "loose.md"})
    assert (filed.data(200)["id"], filed.data()["source_path"]) == (loose["id"], "loose.md")
    firm = await ada.post("/v1/memories", {"content": "Firm", "source_path": "loose.md"})
    assert firm.data(200)["id"] == loose["id"]


async def test_every_change_keeps_what_was_before_and_it_can_be_brought_back(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])
    made = await push(ada, "One", hub, tags=["a"])
    url = f"/v1/memories/{made['id']}"
    second = (await ada.patch(url, {"content": "Two", "tags": [], "kind": "procedural"})).data(200)
    assert (second["version"], second["tags"], second["kind"], second["title"]) == (
        2,
        [],
        "procedural",
        "Two",
    )
    assert second["content_hash"] != made["content_hash"]
    assert (await ada.patch(url, {"title": "", "content": ""})).data()["version"] == 2
    assert (await bo.patch(url, {"content": "Mine"})).error == "not_found"
    assert (await bo.post(f"{url}/versions/1/restore")).error == "not_found"
    for none in ("0", "2", "x", "99999999999"):
        assert (await ada.post(f"{url}/versions/{none}/restore")).error == "not_found"
    back = (await ada.post(f"{url}/versions/1/restore")).data(200)
    kept = ("content", "tags", "kind", "title", "content_hash")
    assert [back[name] for name in kept] == [made[name] for name in kept]
    assert back["version"] == 3
    versions = (await bo.get(f"{url}/versions")).data()["versions"]
    assert [(v["version"], v["content"], v["saved_by_name"]) for v in versions] == [
        (3, "One", "ada"),
        (2, "Two", "ada"),
        (1, "One", "ada"),
    ]


async def test_to_push_a_text_is_one_statement(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    before = world.db.trips
    await push(ada, "Once", hub)
    assert world.db.trips == before + 1


async def test_only_members_read_and_only_those_who_may_write_push(world: World) -> None:
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    hub = await world.hub(ada, contributors=[bo], viewers=[cy])
    made = await push(bo, "Ours", hub)
    assert await list_ids(cy, hub) == [made["id"]]
    assert (await cy.post("/v1/memories", {"content": "x"}, headers=at(hub))).error == "no_write_access"
    assert (await cy.post("/v1/memories", {"content": 5}, headers=at(hub))).error == "no_write_access"
    assert (await eve.post("/v1/memories", {"content": "x"}, headers=at(hub))).error == "not_member"
    assert (await eve.post("/v1/memories", {"content": "x"}, headers=at(MISSING))).error == "not_member"
    # A read that names a hub out of reach is of one's own.
    assert await list_ids(eve, hub) == []
    for call in ("get", "delete"):
        assert (await getattr(eve, call)(f"/v1/memories/{made['id']}")).error == "not_found"
    (await ada.delete(f"{hub.url}/members/{bo.id}")).ok(200)
    for reply in (
        await bo.get(f"/v1/memories/{made['id']}"),
        await bo.patch(f"/v1/memories/{made['id']}", {"content": "Still mine"}),
        await bo.delete(f"/v1/memories/{made['id']}"),
        await bo.get(f"/v1/memories/{made['id']}/versions"),
        await bo.post(f"/v1/memories/{made['id']}/access"),
    ):
        assert reply.error == "not_found"


async def test_deleting_takes_rank_or_authorship_and_leaves_nothing(world: World) -> None:
    ada, bo, cy, dee = await world.people("ada", "bo", "cy", "dee")
    hub = await world.hub(ada, contributors=[bo, cy], viewers=[dee])
    long = "\n\n".join(f"## Part {n}\n" + "All about growing things. " * 40 for n in range(6))
    made = await push(bo, long, hub)
    (await bo.patch(f"/v1/memories/{made['id']}", {"title": "Another"})).ok(200)
    for other in (cy, dee):
        assert (await other.delete(f"/v1/memories/{made['id']}")).error == "forbidden"
    async with world.db.reading() as read:
        rows = (
            "SELECT (SELECT count(*) FROM memory_terms WHERE memory_id = $1::uuid)"
            " + (SELECT count(*) FROM memory_chunks WHERE memory_id = $1::uuid)"
            " + (SELECT count(*) FROM memory_versions WHERE memory_id = $1::uuid)"
        )
        assert await read.value(rows, made["id"]) > 10
        (await ada.patch(hub.url, {"contributor_delete_policy": "any"})).ok(200)
        assert (await cy.delete(f"/v1/memories/{made['id']}")).data(200) == {"deleted": True}
        assert await read.value(rows, made["id"]) == 0
    assert await counts(ada, hub) == (0, 0, 0)


async def test_lists_page_without_loss_among_equal_times_and_filter_as_asked(
    world: World,
) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    made = [(await push(ada if n % 2 else bo, f"Memory {n}", hub))["id"] for n in range(7)]
    async with world.db.writing() as tx:
        await tx.run("UPDATE memories SET created_at = '2026-01-01Z' WHERE space_id = $1::uuid", hub.id)
    for sort in ("newest", "relevant"):
        seen: list[str] = []
        cursor = ""
        for _ in range(5):
            query = f"?limit=2&sort={sort}" + (f"&cursor={cursor}" if cursor else "")
            page = (await ada.get("/v1/memories" + query, headers=at(hub))).data()
            assert page["total"] == 7 and ("actors" in page) == (cursor == "")
            seen += [memory["id"] for memory in page["memories"]]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                break
        assert cursor == "" and sorted(seen) == sorted(made) and len(seen) == 7
    (await bo.post(f"/v1/memories/{made[3]}/access")).ok(204)
    (await bo.post(f"/v1/memories/{made[3]}/access")).ok(204)
    (await ada.post(f"/v1/memories/{made[3]}/access")).ok(204)
    assert (await list_ids(ada, hub, "?sort=relevant"))[0] == made[3]
    assert (await ada.get(f"/v1/memories/{made[3]}")).data()["access_count"] == 2

    fresh = await push(ada, "Step 1: dig", hub, kind="procedural")
    page = (await ada.get("/v1/memories?kind=procedural", headers=at(hub))).data()
    assert ([m["id"] for m in page["memories"]], page["total"]) == ([fresh["id"]], 1)
    assert await list_ids(ada, hub, "?created_after=12h") == [fresh["id"]]
    assert len(await list_ids(ada, hub, "?actor=self")) == 4
    assert len(await list_ids(ada, hub, "?actor=author:bo")) == 4
    assert len(await list_ids(ada, hub, "?actor=all&limit=zero")) == 8
    assert await list_ids(ada, hub, f"?topic_id={MISSING}") == []
    for query, code in (
        ("kind=other", "invalid_kind"),
        ("sort=oldest", "invalid_sort"),
        ("created_after=soon", "invalid_created"),
        ("actor=whoever", "invalid_actor"),
        ("topic_id=x", "invalid_topic_id"),
        ("cursor=x", "invalid_cursor"),
        ("state=gone", "invalid_state"),
        ("created_before=soon", "invalid_created"),
        ("tags=" + "t" * 101, "invalid_tags"),
        ("q=garden", "unknown_filter"),
        ("tag=garden", "unknown_filter"),
    ):
        assert (await ada.get(f"/v1/memories?{query}")).error == code


async def test_what_is_archived_is_listed_when_asked_for_and_fetched_back_by_its_author(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    kept = await push(bo, "Beans climb", hub, tags=["garden", "tall"])
    gone = await push(bo, "Peas climb", hub, tags=["garden"])
    url = f"/v1/memories/{gone['id']}"
    for reply in (
        await ada.patch(url, {"state": "archived"}),
        await bo.patch(MISSING, {"state": "archived"}),
    ):
        assert reply.error == "not_found"
    for wrong in ("processing", "gone"):
        assert (await bo.patch(url, {"state": wrong})).error == "invalid_state"
    archived = (await bo.patch(url, {"state": "archived"})).data(200)
    assert (archived["state"], archived["version"]) == ("archived", 1)
    assert await counts(ada, hub) == (1, 1, 1)
    for query, found in (
        ("", [kept]),
        ("?state=archived", [gone]),
        ("?state=active", [kept]),
        ("?state=all", [gone, kept]),
        ("?state=processing", []),
        ("?state=all&tags=garden&tags=tall", [kept]),
        ("?state=all&created_before=7d", []),
    ):
        page = (await ada.get("/v1/memories" + query, headers=at(hub))).data()
        assert ([m["id"] for m in page["memories"]], page["total"]) == ([m["id"] for m in found], len(found))
    asked = {"query": "peas", "include_archived": True}
    assert [m["id"] for m in (await ada.post("/v1/recall", asked)).data()["memories"]] == [gone["id"]]
    assert (await bo.patch(url, {"state": "active"})).data(200)["state"] == "active"
    assert (await ada.post("/v1/recall", {"query": "peas"})).data()["memories"][0]["id"] == gone["id"]
    assert await counts(ada, hub) == (2, 2, 2)


async def test_when_something_was_said_and_by_whom_can_be_corrected(world: World) -> None:
    ada = await world.person("ada")
    made = await push(ada, "I ran it in four hours", occurred_at="2023-05-08T10:00:00Z", speaker="Bo")
    url = f"/v1/memories/{made['id']}"
    change = {"occurred_at": "2024-02-29T10:00:00Z", "speaker": " Caroline  Smith "}
    changed = (await ada.patch(url, change)).data(200)
    assert (changed["occurred_at"], changed["speaker"]) == ("2024-02-29T10:00:00.000000Z", "Caroline Smith")
    assert (await ada.patch(url, {"occurred_at": "lately"})).error == "invalid_occurred_at"
    # What nobody may set is passed over, as all that is unknown in a body.
    assert (await ada.patch(url, {"owner_id": "x", "version": 9, "thread_id": "t"})).data() == changed
    found = (await ada.post("/v1/recall", {"query": "29 February 2024"})).data()["memories"]
    assert [m["id"] for m in found] == [made["id"]]


async def test_several_are_deleted_at_once_and_the_answer_says_which_were_not(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada, contributors=[bo])
    mine, theirs, hidden = await push(bo, "a", hub), await push(ada, "b", hub), await push(eve, "c")
    ids = [mine["id"], mine["id"], theirs["id"], hidden["id"], "x"]
    answer = (await bo.post("/v1/memories/batch-delete", {"ids": ids})).data(200)
    assert answer["deleted"] == 1
    assert {(row["id"], row["reason"]) for row in answer["skipped"]} == {
        (theirs["id"], "not_owned"),
        (hidden["id"], "not_found"),
        ("x", "not_found"),
    }
    assert (await bo.post("/v1/memories/batch-delete", {"ids": []})).error == "missing_ids"
    assert (
        await bo.post("/v1/memories/batch-delete", {"ids": [str(n) for n in range(101)]})
    ).error == "too_many"


async def test_moving_takes_the_right_to_take_out_and_the_right_to_put_in(world: World) -> None:
    ada, bo, cy = await world.people("ada", "bo", "cy")
    source = await world.hub(ada, contributors=[bo])
    target = await world.hub(bo, viewers=[ada], contributors=[cy])
    mine, theirs = await push(bo, "Mine", source, source_path="p"), await push(ada, "Hers", source)
    await push(bo, "There before", target, source_path="p")

    async def move(person: Person, *ids: str, hub: str = target.id) -> Any:
        return await person.post(
            "/v1/memories/batch-move", {"ids": list(ids), "hub_id": hub}, headers=at(hub)
        )

    assert (await move(ada, theirs["id"])).error == "no_write_access"
    assert (await move(bo, mine["id"], hub=MISSING)).status == 404
    (await ada.patch(source.url, {"contributor_delete_policy": "none"})).ok(200)
    assert (await move(bo, mine["id"])).data()["skipped"][0]["reason"] == "source_delete_forbidden"
    (await ada.patch(source.url, {"contributor_delete_policy": "own"})).ok(200)
    answer = (await move(bo, mine["id"], theirs["id"], MISSING)).data(200)
    assert answer["moved"] == 1
    assert sorted(row["reason"] for row in answer["skipped"]) == ["not_found", "not_owned"]
    assert (await move(bo, mine["id"])).data()["skipped"][0]["reason"] == "already_at_target"
    moved = (await bo.get(f"/v1/memories/{mine['id']}")).data()
    assert (moved["hub_id"], "source_path" in moved) == (target.id, False)
    assert await counts(ada, source) == (1, 1, 1)
    assert await counts(bo, target) == (2, 2, 2)
    async with world.db.reading() as read:
        assert await read.value(
            "SELECT bool_and(space_id = $1::uuid) FROM memory_terms WHERE memory_id = $2::uuid",
            target.id,
            mine["id"],
        )
    assert (await bo.post("/v1/memories/batch-move", {"ids": [mine["id"]]})).error == "missing_target"


async def test_sharing_moves_and_clears_the_topic(world: World) -> None:
    ada, bo, eve = await world.people("ada", "bo", "eve")
    hub = await world.hub(ada, viewers=[bo])
    closed = await world.hub(eve)
    made = await push(ada, "Mine alone")
    url = f"/v1/memories/{made['id']}/share"
    assert (await bo.post(url, {"target_hub_id": hub.id})).error == "not_found"
    assert (await ada.post(url, {})).error == "missing_target"
    assert (await ada.post(url, {"target_hub_id": closed.id})).error == "hub_not_found"
    shared = (await ada.post(url, {"target_hub_id": hub.id})).data(200)
    assert (shared["id"], shared["hub_id"], "topic_id" in shared) == (made["id"], hub.id, False)
    assert await list_ids(bo, hub) == [made["id"]]
    own = await push(bo, "Bo's")
    assert (await bo.post(f"/v1/memories/{own['id']}/share", {"target_hub_id": hub.id})).error == "no_access"


async def test_all_that_one_wrote_goes_at_once(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    await push(bo, "In the team", hub)
    await push(bo, "At home")
    left = await push(ada, "Hers", hub)
    assert (await bo.delete("/v1/account/data")).data(200) == {"deleted": True}
    assert await list_ids(bo) == []
    assert await list_ids(ada, hub) == [left["id"]]
    assert await counts(ada, hub) == (1, 1, 1)


async def test_a_key_does_what_it_holds_in_the_hubs_it_is_for(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    elsewhere = await push(ada, "Elsewhere", other)
    key = await key_of(ada, hub_ids=[hub.id], agent_name="claude-code", scopes=["read", "write"])
    made = await push(key, "By an agent")
    assert (made["hub_id"], made["source_agent"]) == (hub.id, "claude-code")
    assert made["provenance"]["created_by_type"] == "agent"
    assert await list_ids(ada, hub, "?actor=agent:claude-code") == [made["id"]]
    assert (await key.get(f"/v1/memories/{elsewhere['id']}")).error == "not_found"
    assert (await key.post("/v1/memories", {"content": "x"}, headers=at(other))).error == "not_member"
    assert await list_ids(key, other) == [made["id"]]
    assert (await key.delete(f"/v1/memories/{made['id']}")).error == "permission_denied"
    assert (
        await key.post("/v1/memories", {"content": "x", "source_agent": "codex"})
    ).error == "attribution_conflict"
    reader = await key_of(ada, scopes=["read"])
    assert (await reader.post("/v1/memories", {"content": "x"})).error == "permission_denied"
    claimed = await ada.post("/v1/memories", {"content": "Not an agent", "source_agent": "codex"})
    assert claimed.headers["x-memax-warning"] == "agent_identity_claim_rejected"
    assert "source_agent" not in claimed.data(201)


async def test_deleting_a_hub_leaves_nothing_of_its_memories(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    mark = secrets.token_hex(8)
    made = await push(ada, f"Mark {mark}", hub)
    (await ada.patch(f"/v1/memories/{made['id']}", {"content": f"Changed {mark}"})).ok(200)
    (await ada.delete(hub.url)).ok(200)
    async with world.db.reading() as read:
        for table in ("memories", "memory_terms", "memory_versions", "memory_chunks"):
            sql: Any = f"SELECT count(*) FROM {table} WHERE space_id = $1::uuid"
            assert await read.value(sql, hub.id) == 0


async def test_the_same_pushed_at_once_is_stored_once(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    same = {"content": "All at once"}
    replies = await asyncio.gather(*(ada.post("/v1/memories", same, headers=at(hub)) for _ in range(12)))
    assert sorted(reply.status for reply in replies) == [200] * 11 + [201]
    assert len({reply.data()["id"] for reply in replies}) == 1
    assert await counts(ada, hub) == (1, 1, 1)


async def test_a_large_hub_is_gone_at_once_and_a_job_removes_what_is_left(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO memories (id, space_id, author_id, content, content_hash)"
            " SELECT uuid7(), $1::uuid, $2, 'Large ' || n, sha256(('Large ' || n)::bytea)"
            " FROM generate_series(1, 2100) AS n",
            hub.id,
            ada.id,
        )
    (await ada.delete(hub.url)).ok(200)
    for person in (ada, bo):
        assert (await person.get(hub.url)).error == "not_member"
        assert await list_ids(person, hub) == []
        found = await person.post("/v1/recall", {"query": "large"})
        assert found.data()["memories"] == []
        assert hub.id not in [row["hub"]["id"] for row in (await person.get("/v1/hubs")).data()]
    again = {"name": "Again", "slug": hub.body["slug"]}
    assert (await bo.post("/v1/hubs", again)).status == 201
    await clear_remains(world.house.work, RemainsLeft())
    async with world.db.reading() as read:
        assert await read.value("SELECT count(*) FROM spaces WHERE id = $1::uuid", hub.id) == 0
        assert await read.value("SELECT count(*) FROM memory_terms WHERE space_id = $1::uuid", hub.id) == 0


async def test_who_is_erased_takes_their_own_hub_along_and_leaves_what_they_told_others(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    shared, own = await push(bo, "For all", hub), await push(bo, "For me")
    (await bo.delete("/api/users/me")).ok(204)
    left = (await ada.get(f"/v1/memories/{shared['id']}")).data()
    assert (left["content"], left["author_name"]) == ("For all", "Deleted member")
    async with world.db.reading() as read:
        assert await read.value("SELECT count(*) FROM memories WHERE id = $1::uuid", own["id"]) == 0


async def test_a_full_and_a_frozen_hub_take_nothing_more(world: World) -> None:
    settings = msgspec.structs.replace(world.house.settings, most_hub_memories=1, monthly_pushes=4)
    async with open_world(settings) as small:
        ada = await small.person("ada")
        hub, other = await small.hub(ada), await small.hub(ada)
        first = await push(ada, "One", hub)
        full = await ada.post("/v1/memories", {"content": "Two"}, headers=at(hub))
        assert (full.status, full.error) == (402, "hub_memory_limit_reached")
        assert full.details == {"current": 1, "limit": 1, "hub_id": hub.id, "cap_source": "hub"}
        # What is there already takes no room.
        assert (await ada.post("/v1/memories", {"content": "One"}, headers=at(hub))).status == 200
        own = await push(ada, "Mine")
        assert (await ada.post("/v1/memories", {"content": "Too much"})).error == "memory_limit_reached"
        move = {"ids": [own["id"]], "hub_id": hub.id}
        assert (await ada.post("/v1/memories/batch-move", move)).error == "hub_memory_limit_reached"
        # Nor is there room for what comes back from the archive.
        stored = await push(ada, "Three", other)
        (await ada.patch(f"/v1/memories/{stored['id']}", {"state": "archived"})).ok(200)
        async with small.db.single() as tx:
            await tx.run(
                "INSERT INTO memories (id, space_id, author_id, content, content_hash)"
                " VALUES (uuid7(), $1::uuid, $2, 'x', sha256('x'))",
                other.id,
                ada.id,
            )
        fetched = await ada.patch(f"/v1/memories/{stored['id']}", {"state": "active"})
        assert fetched.error == "hub_memory_limit_reached"
        async with small.db.single() as tx:
            await tx.run("UPDATE spaces SET frozen_at = now() WHERE id = $1::uuid", other.id)
        assert (await ada.patch(f"/v1/memories/{stored['id']}", {"state": "active"})).error == "hub_frozen"
        frozen = await ada.post("/v1/memories", {"content": "Cold"}, headers=at(other))
        assert (frozen.status, frozen.error) == (402, "hub_frozen")
        share = {"target_hub_id": other.id}
        assert (await ada.post(f"/v1/memories/{first['id']}/share", share)).error == "hub_frozen"
        # Refusals are not counted, and the fifth push of the month is one too many.
        async with small.db.single() as tx:
            await tx.run("DELETE FROM memories WHERE space_id = $1::uuid", hub.id)
        spent = await ada.post("/v1/memories", {"content": "Four"}, headers=at(hub))
        assert (spent.status, spent.error) == (402, "quota_exceeded")
        assert await list_ids(ada, hub) == []


@pytest.mark.parametrize(
    "body",
    [
        {"content": "# a\nb\n\n" * 8_000},
        {"content": "x" * 80_000},
        {"content": "ä" * 40_000},
        {"content": "日本" * 8_000},
        {"content": "long path", "source_path": "ü" * 2048},
        {"content": "old", "occurred_at": "0002-01-01T00:00:00+14:00"},
        {"content": "new", "occurred_at": "9998-12-31T23:59:59-14:00"},
        {"content": "<p>" * 8_000, "content_type": "html"},
        {"content": "```\n" * 8_000, "content_type": "markdown", "thread_id": "t" * 200, "seq": -(2**53)},
        {"content": "\u202e\U0010ffff\x01", "tags": ["\U0010ffff" * 100] * 2, "title": "%s{}'\"\\"},
    ],
    ids=lambda body: f"{len(body['content'])} of {body['content'][:4]!r}",
)
async def test_whatever_is_pushed_is_kept_and_found(world: World, body: dict[str, Any]) -> None:
    ada = await world.person("ada")
    made = (await ada.post("/v1/memories", body)).data(201)
    assert (await ada.post("/v1/memories", body)).data(200)["id"] == made["id"]
    for query in (body["content"][:300], "x'\"\\%_:&|!()*<->", "日", "\U0010ffff", "word " * 700):
        (await ada.post("/v1/recall", {"query": query})).data(200)
        (await ada.get("/v1/memories/search", params={"q": query[:200]})).data(200)
    (await ada.get(f"/v1/memories/{made['id']}/related")).data(200)
    (await ada.delete(f"/v1/memories/{made['id']}")).data(200)
