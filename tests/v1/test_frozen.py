"""A hub that is frozen stays as it is: nothing comes in or is recalled; what is there is read or deleted."""

from tests.v1.test_memories import at, push
from tests.v1.test_recall import ids
from tests.world import World


async def test_a_frozen_hub_is_read_and_not_recalled_until_it_thaws(world: World) -> None:
    ada = await world.person("ada")
    hub, other = await world.hub(ada), await world.hub(ada)
    cold, gone = await push(ada, "Plums freeze well.", hub), await push(ada, "Plums do not.", hub)
    warm = await push(ada, "Plums like it warm.", other)
    topic = (await ada.post("/v1/topics", {"name": "Ice", "hub_id": hub.id})).data(201)

    async def freeze(frozen: bool) -> None:
        async with world.db.single() as tx:
            value = "now()" if frozen else "NULL"
            await tx.connection.execute(f"UPDATE spaces SET frozen_at = {value} WHERE id = '{hub.id}'")

    await freeze(True)
    assert await ids(ada, "plums") == [warm["id"]]
    assert await ids(ada, "plums", hub, hub_ids=[hub.id], include_archived=True) == []
    asked = (await ada.post("/v1/ask", {"query": "Do plums freeze?"}, headers=at(hub))).data(200)
    assert [source["id"] for source in asked["sources"]] == [warm["id"]]
    for moved in (
        await ada.post("/v1/memories", {"content": "Ice"}, headers=at(hub)),
        await ada.post("/v1/memories/batch-move", {"ids": [warm["id"]], "hub_id": hub.id}),
        await ada.post("/v1/memories/batch-move", {"ids": [warm["id"]], "topic_id": topic["id"]}),
        await ada.post(f"/v1/memories/{warm['id']}/share", {"target_hub_id": hub.id}),
    ):
        assert (moved.status, moved.error) == (402, "hub_frozen")
    trigger = await ada.post("/v1/dreams/trigger", {}, headers=at(hub))
    assert (trigger.status, trigger.error) == (409, "hub_frozen")

    assert (await ada.get(hub.url)).data(200)["is_frozen"] is True
    listed = (await ada.get("/v1/memories", headers=at(hub))).data(200)["memories"]
    assert {memory["id"] for memory in listed} == {cold["id"], gone["id"]}
    assert (await ada.get(f"/v1/memories/{cold['id']}")).data(200)["content"] == "Plums freeze well."
    assert (await ada.get(f"/v1/topics?hub_id={hub.id}")).data(200)["topics"][0]["id"] == topic["id"]
    assert (await ada.delete(f"/v1/memories/{gone['id']}")).data(200) == {"deleted": True}
    await freeze(False)
    assert set(await ids(ada, "plums")) == {cold["id"], warm["id"]}
    await freeze(True)
    assert (await ada.delete(hub.url)).data(200)["deleted"] is True


async def test_recall_counts_what_is_shown_and_never_what_is_opened(world: World) -> None:
    ada = await world.person("ada")
    made = await push(ada, "Plums ripen in August.")
    (await ada.post("/v1/recall", {"query": "plums"})).data(200)
    (await ada.post("/v1/ask", {"query": "When do plums ripen?"})).data(200)
    (await ada.get("/v1/memories/search?q=plums")).data(200)
    read = (await ada.get(f"/v1/memories/{made['id']}")).data(200)
    assert (read["shown_count"], read["access_count"]) == (2, 0)
    assert (read["accessed_at"], read["version"]) == (made["accessed_at"], 1)
