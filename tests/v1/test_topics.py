"""Topics: a tree that people arrange, with memories in it, for whoever is in the hub and nobody else."""

import secrets
from typing import Any

import pytest

from tests.v1.test_memories import at, push
from tests.world import Browser, Hub, Person, World

MISSING = "018f0000-0000-7000-8000-000000000000"


async def make(person: Browser, name: str, hub: Hub | None = None, **more: Any) -> dict[str, Any]:
    headers = at(hub) if hub else {}
    return (await person.post("/v1/topics", {"name": name, **more}, headers=headers)).data(201)


async def tree(person: Browser, hub: Hub | None = None) -> list[dict[str, Any]]:
    query = f"?hub_id={hub.id}" if hub else ""
    return (await person.get("/v1/topics" + query)).data(200)["topics"]


def shape(topics: list[dict[str, Any]]) -> dict[str, Any]:
    """Names and numbers, level by level."""
    return {
        topic["name"]: (topic["memory_count"], topic["total_memory_count"], shape(topic["children"]))
        for topic in topics
    }


async def test_the_tree_is_whole_at_every_depth_and_counts_what_is_in_it(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    parent = None
    made = []
    for depth in range(5):
        made.append(await make(ada, f"Level {depth}", hub, **({"parent_id": parent} if parent else {})))
        parent = made[-1]["id"]
    body = {"name": "Too deep", "parent_id": parent}
    assert (await ada.post("/v1/topics", body, headers=at(hub))).error == "max_depth"
    memories = [await push(ada, f"Beans climb {n} metres.", hub) for n in range(3)]
    for memory in memories[:2]:
        reply = await ada.post(f"/v1/topics/{parent}/memories", {"memory_id": memory["id"]})
        assert (reply.status, reply.response.content) == (201, b"")
    found = (await ada.get(f"/v1/topics?hub_id={hub.id}")).data(200)
    assert found["unassigned_count"] == 1
    assert shape(found["topics"]) == {
        "Level 0": (
            0,
            2,
            {"Level 1": (0, 2, {"Level 2": (0, 2, {"Level 3": (0, 2, {"Level 4": (2, 2, {})})})})},
        )
    }
    read = (await ada.get(f"/v1/topics/{parent}")).data(200)
    assert read["activity_summary"] == {
        "window_days": 7,
        "memory_count": 2,
        "contributor_count": 1,
        "contributors_preview": [{"user_id": ada.id, "user_name": "ada"}],
    }
    assert read["lifecycle"] == {"delta_since_visit": None}
    assert (read["user_modified"], read["icon"], made[0]["parent_id"]) == (True, "folder", None)
    # From any topic above, page by page.
    walked: list[str] = []
    cursor = ""
    while True:
        page = (await ada.get(f"/v1/topics/{made[0]['id']}/memories?limit=1&cursor={cursor}")).data(200)
        walked += [memory["id"] for memory in page["memories"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    assert walked == [memory["id"] for memory in reversed(memories[:2])]
    assert (await ada.get(f"/v1/topics/{parent}/memories?cursor=nonsense")).error == "invalid_cursor"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "missing_name"),
        ({"name": "  "}, "missing_name"),
        ({"name": "x" * 101}, "name_too_long"),
        ({"name": "a\u202eb"}, "invalid_name"),
        ({"name": "x", "parent_id": MISSING}, "invalid_parent"),
        ({"name": "x", "parent_id": "nonsense"}, "invalid_parent"),
        ({"name": 5}, "invalid_json"),
        ({"name": "BEANS"}, "duplicate_name"),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, body: dict[str, Any], code: str) -> None:
    ada = await world.person("ada")
    await make(ada, "Beans")
    assert (await ada.post("/v1/topics", body)).error == code
    assert [topic["name"] for topic in await tree(ada)] == ["Beans"]


async def test_a_topic_moves_where_it_makes_sense(world: World) -> None:
    ada = await world.person("ada")
    top = await make(ada, "Top")
    inner = await make(ada, "Inner", parent_id=top["id"])
    other = await make(ada, "Other")

    async def move(topic: dict[str, Any], **changes: Any) -> Any:
        return await ada.patch(f"/v1/topics/{topic['id']}", changes)

    assert (await move(top, parent_id=inner["id"])).error == "cycle_detected"
    assert (await move(top, parent_id=top["id"])).error == "cycle_detected"
    assert (await move(other, name="top")).error == "duplicate_name"
    assert (await move(inner, name="")).error == "missing_name"
    deep = other["id"]
    for n in range(3):
        deep = (await make(ada, f"D{n}", parent_id=deep))["id"]
    assert (await move(top, parent_id=deep)).error == "max_depth_subtree"
    assert (await move(inner, parent_id=None)).data(200)["parent_id"] is None
    assert (await move(inner, parent_id=top["id"])).data(200)["parent_id"] == top["id"]
    assert (await move(inner, description="d")).data(200)["parent_id"] == top["id"]
    assert (await move(inner, parent_id="")).data(200)["parent_id"] is None
    renamed = (await move(inner, name=" Beans ", icon="leaf", position=7, pinned=True)).data(200)
    assert [renamed[key] for key in ("name", "icon", "position", "pinned")] == ["Beans", "leaf", 7, True]


async def test_an_archived_topic_takes_along_what_is_inside_and_comes_back_with_it(world: World) -> None:
    ada = await world.person("ada")
    top = await make(ada, "Top")
    inner = await make(ada, "Inner", parent_id=top["id"])
    memory = await push(ada, "Beans climb.")
    await ada.post(f"/v1/topics/{inner['id']}/memories", {"memory_id": memory["id"]})
    url, inside = f"/v1/topics/{top['id']}", f"/v1/topics/{inner['id']}"

    assert (await ada.post(f"{url}/archive", {})).data(200) == {"topic_id": top["id"], "archived_count": 2}
    assert (await ada.post(f"{url}/archive", {})).data(200) == {"topic_id": top["id"]}
    assert await tree(ada) == []
    archived = (await ada.get("/v1/topics/archived")).data(200)["topics"]
    assert {topic["id"] for topic in archived} == {top["id"], inner["id"]}
    for refused, code in (
        (await ada.patch(inside, {"name": "x"}), "topic_archived"),
        (await ada.post("/v1/topics", {"name": "x", "parent_id": top["id"]}), "parent_archived"),
        (await ada.post(f"{inside}/memories", {"memory_id": memory["id"]}), "topic_archived"),
        (
            await ada.post("/v1/topics/reorder", {"operations": [{"topic_id": top["id"], "position": 0}]}),
            "topic_archived",
        ),
    ):
        assert (refused.status, refused.error) == (409, code)
    # Alone it comes to the roots, since its parent stays where it is.
    assert (await ada.post(f"{inside}/restore", {})).data(200) == {
        "topic_id": inner["id"],
        "restored_count": 1,
    }
    assert shape(await tree(ada)) == {"Inner": (1, 1, {})}
    await make(ada, "top")
    assert (await ada.post(f"{url}/restore", {})).error == "duplicate_name"
    assert (await ada.post(f"{inside}/restore", {})).data(200) == {"topic_id": inner["id"]}


async def test_a_deleted_topic_leaves_what_was_in_it(world: World) -> None:
    ada = await world.person("ada")
    top = await make(ada, "Top")
    middle = await make(ada, "Middle", parent_id=top["id"])
    await make(ada, "Low", parent_id=middle["id"])
    memory = await push(ada, "Beans climb.")
    url = f"/v1/topics/{middle['id']}"
    await ada.post(f"{url}/memories", {"memory_id": memory["id"]})
    clash = await make(ada, "Low", parent_id=top["id"])
    assert (await ada.delete(url)).error == "duplicate_name"
    (await ada.delete(f"/v1/topics/{clash['id']}")).ok(204)
    (await ada.delete(url)).ok(204)
    assert (await ada.delete(url)).error == "not_found"
    assert shape(await tree(ada)) == {"Top": (0, 0, {"Low": (0, 0, {})})}
    assert "topic_id" not in (await ada.get(f"/v1/memories/{memory['id']}")).data()
    assert (await ada.get("/v1/topics")).data()["unassigned_count"] == 1


async def test_a_memory_is_in_the_topic_that_is_surest_of_it(world: World) -> None:
    ada = await world.person("ada")
    first, second = await make(ada, "First"), await make(ada, "Second")
    memory = (await push(ada, "Beans climb."))["id"]

    async def assign(topic: dict[str, Any], **body: Any) -> Any:
        return await ada.post(f"/v1/topics/{topic['id']}/memories", {"memory_id": memory, **body})

    async def where() -> str | None:
        return (await ada.get(f"/v1/memories/{memory}")).data().get("topic_id")

    for topic, confidence, ends_in in (
        (first, 0.4, first),
        (second, 0.7, second),
        (first, 0.4, second),
        (first, None, first),
        (first, 0.1, first),
        (second, 0.84, first),
        (second, 0.85, second),
        (first, 1.0, first),
        (second, None, first),
    ):
        (await assign(topic, **({} if confidence is None else {"confidence": confidence}))).ok(201)
        assert await where() == ends_in["id"]
    assert (await assign(first, confidence=2)).error == "invalid_json"
    for body, code in (({}, "missing_memory_id"), ({"memory_id": MISSING}, "not_found")):
        assert (await ada.post(f"/v1/topics/{first['id']}/memories", body)).error == code
    url = f"/v1/topics/{second['id']}/memories/{memory}"
    (await ada.delete(url)).ok(204)
    assert await where() == first["id"]
    (await ada.delete(url.replace(second["id"], first["id"]))).ok(204)
    assert await where() is None


async def test_topics_are_put_into_an_order_together_or_not_at_all(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, viewers=[bo])
    a, b = await make(ada, "A", hub), await make(ada, "B", hub)
    x, y = await make(ada, "X", hub, parent_id=a["id"]), await make(ada, "X", hub, parent_id=b["id"])

    async def reorder(*operations: dict[str, Any], who: Person = ada) -> Any:
        return await who.post("/v1/topics/reorder", {"operations": list(operations)}, headers=at(hub))

    # Two of the same name change places.
    swap = [
        {"topic_id": x["id"], "position": 0, "parent_id": b["id"]},
        {"topic_id": y["id"], "position": 0, "parent_id": a["id"]},
        {"topic_id": b["id"], "position": 0},
        {"topic_id": a["id"], "position": 1},
    ]
    assert (await reorder(*swap)).data(200) == {"status": "ok"}
    found = await tree(ada, hub)
    assert [(t["id"], t["children"][0]["id"]) for t in found] == [(b["id"], x["id"]), (a["id"], y["id"])]
    first = {"topic_id": a["id"], "position": 5}
    for bad, code in (
        ({"topic_id": MISSING, "position": 0}, "invalid_topic"),
        ({"topic_id": x["id"], "position": 0, "parent_id": MISSING}, "invalid_parent"),
        ({"topic_id": b["id"], "position": 0, "parent_id": x["id"]}, "cycle_detected"),
        ({"topic_id": x["id"], "position": 0, "parent_id": a["id"]}, "duplicate_name"),
    ):
        assert (await reorder(first, bad)).error == code
    assert await tree(ada, hub) == found
    assert (await reorder()).error == "empty_operations"
    assert (await reorder(first, who=bo)).error == "forbidden"
    # Where no hub is named, the first topic says which.
    assert (await ada.post("/v1/topics/reorder", {"operations": [first]})).data() == {"status": "ok"}
    assert (await ada.post("/v1/topics/reorder", {"operations": []})).error == "empty_operations"


async def test_only_those_arrange_topics_whom_the_hub_lets(world: World) -> None:
    ada, bo, eve, mallory = await world.people("ada", "bo", "eve", "mallory")
    hub = await world.hub(ada, contributors=[bo], viewers=[eve])
    topic = await make(bo, "Bo's", hub)
    url = f"/v1/topics/{topic['id']}"
    assert (await eve.get(url)).data()["name"] == "Bo's"
    for method, path, body in (
        ("POST", "/v1/topics", {"name": "x"}),
        ("PATCH", url, {"name": "x"}),
        ("DELETE", url, None),
        ("POST", f"{url}/archive", None),
        ("POST", f"{url}/memories", {"memory_id": MISSING}),
        # The right is asked for before the topic is looked for.
        ("PATCH", f"/v1/topics/{MISSING}", {"name": "x"}),
    ):
        assert (await eve.call(method, path, body, headers=at(hub))).error == "forbidden", path
        assert (await mallory.call(method, path, body, headers=at(hub))).error == "not_member", path
    for path in (url, f"{url}/memories"):
        assert (await mallory.get(path)).error == "not_found"
    assert (await mallory.patch(url, {"name": "x"})).error == "not_found"
    assert (await eve.post(f"{url}/visit", {})).data() == {"status": "ok", "topic_id": topic["id"]}
    assert (await mallory.post(f"{url}/visit", {})).error == "not_found"
    assert (await eve.post("/v1/topics/nonsense/visit", {})).error == "invalid_topic_id"
    (await ada.patch(hub.url, {"allow_contributor_topics": False})).data()
    assert (await bo.patch(url, {"name": "x"})).error == "forbidden"
    assert (await ada.patch(url, {"name": "Ada's"})).data()["name"] == "Ada's"


async def test_a_topic_is_of_one_hub(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    topic = await make(ada, "Here", hub)
    url = f"/v1/topics/{topic['id']}"
    assert (await ada.get(url)).data()["hub_id"] == hub.id
    assert (await ada.get(url, headers=at(other))).error == "not_found"
    assert (await ada.patch(url, {"name": "x"}, headers=at(other))).error == "not_found"
    elsewhere = await push(ada, "Beans climb.", other)
    refused = await ada.post(f"{url}/memories", {"memory_id": elsewhere["id"]})
    assert refused.error == "invalid_topic"
    inside = {"name": "x", "parent_id": topic["id"]}
    assert (await ada.post("/v1/topics", inside, headers=at(other))).error == "invalid_parent"
    # The body says where, before the header.
    assert (await make(ada, "There", hub, hub_id=other.id))["hub_id"] == other.id
    stranger = await world.hub(await world.person("bo"))
    for query in (stranger.id, "nonsense"):
        assert (await ada.get(f"/v1/topics?hub_id={query}")).error == "missing_hub"
        assert (await ada.get(f"/v1/topics/archived?hub_id={query}")).error == "missing_hub"


async def test_what_moves_keeps_every_number_right(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    topic = await make(ada, f"T{secrets.token_hex(3)}", hub)
    ids = [(await push(ada, f"Beans climb {n}.", hub))["id"] for n in range(4)]
    moved = {"ids": ids, "topic_id": topic["id"]}
    assert (await ada.post("/v1/memories/batch-move", moved)).data()["moved"] == 4
    (await ada.delete(f"/v1/memories/{ids[0]}")).data()
    (await ada.post(f"/v1/memories/{ids[1]}/share", {"target_hub_id": other.id})).data()
    found = (await ada.get(f"/v1/topics?hub_id={hub.id}")).data()
    assert (found["topics"][0]["memory_count"], found["unassigned_count"]) == (2, 0)
    (await ada.post("/v1/memories/batch-delete", {"ids": ids})).data()
    assert (await tree(ada, hub))[0]["memory_count"] == 0
