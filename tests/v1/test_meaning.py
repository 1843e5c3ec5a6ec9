"""Recall by meaning: optional, never waited for, and within the same rights and filters as words."""

import secrets

import pytest

from guildhall.memories.meaning import VectorsDue, make_vectors
from guildhall.providers.embeddings import EmbeddingsFailed
from tests.servers.embedding_server import EmbeddingServer
from tests.v1.test_memories import at, push
from tests.v1.test_recall import ids, recall
from tests.world import World

pytestmark = pytest.mark.xdist_group("meaning")


async def make(world: World) -> None:
    await make_vectors(world.house.work, VectorsDue())


async def test_what_means_the_same_is_found_though_no_word_is_the_same(meaning: World) -> None:
    ada = await meaning.person("ada")
    wanted = await push(ada, "My automobile broke down.")
    await push(ada, "A kitten sleeps on the sofa.")
    assert await recall(ada, "vehicle") == []
    await make(meaning)
    [first, *_] = await recall(ada, "vehicle")
    assert (first["id"], first["reasons"]["terms"]) == (wanted["id"], [])
    assert 0.3 < first["reasons"]["meaning"] <= 1
    # Words still count: what has both is before what has one.
    both = await push(ada, "The vehicle is an automobile.")
    await make(meaning)
    assert (await ids(ada, "vehicle"))[:2] == [both["id"], wanted["id"]]


async def test_who_said_it_and_when_are_part_of_what_it_means(
    meaning: World, server: EmbeddingServer
) -> None:
    ada = await meaning.person("ada")
    mark = secrets.token_hex(4)
    await push(ada, f"I ran {mark}", speaker="Caroline", occurred_at="2023-05-08T10:00:00Z")
    await push(ada, f"Bo swam {mark}", title="Sport")
    await push(ada, f"Bo sang {mark}")
    await make(meaning)
    assert [text for text in server.asked if mark in text] == [
        f"Caroline: I ran {mark} (8 May 2023)",
        f"Sport\nBo swam {mark}",
        f"Bo sang {mark}",
    ]


async def test_a_change_makes_a_new_vector_and_a_deletion_leaves_none(
    meaning: World, server: EmbeddingServer
) -> None:
    ada = await meaning.person("ada")
    mark = secrets.token_hex(4)
    memory = await push(ada, f"The physician was kind {mark}.")
    await make(meaning)
    asked = len(server.asked)
    await make(meaning)
    assert len(server.asked) == asked, "what has a vector is not asked for again"
    (await ada.patch(f"/v1/memories/{memory['id']}", {"content": f"We purchase apples {mark}."})).ok()
    await make(meaning)
    assert memory["id"] == (await ids(ada, "buy"))[0]
    (await ada.delete(f"/v1/memories/{memory['id']}")).ok()
    async with meaning.db.reading() as read:
        left = await read.value(
            "SELECT count(*) FROM memory_vectors WHERE memory_id = $1::uuid", memory["id"]
        )
    assert left == 0


async def test_meaning_finds_nothing_that_the_caller_may_not_read_or_did_not_ask_for(meaning: World) -> None:
    ada, bo = await meaning.people("ada", "bo")
    hub = await meaning.hub(ada, viewers=[bo])
    other = await meaning.hub(ada)
    seen = await push(ada, "An automobile in our hub.", hub)
    hidden = await push(ada, "An automobile of nobody else's.", other)
    tagged = await push(ada, "An automobile with a tag.", hub, tags=["red"])
    await make(meaning)
    assert set(await ids(bo, "car")) == {seen["id"], tagged["id"]}
    assert await ids(bo, "car", tags=["red"]) == [tagged["id"]]
    assert await ids(ada, "car", hub_ids=[other.id]) == [hidden["id"]]
    (await ada.delete(f"{hub.url}/members/{bo.id}")).ok()
    assert await ids(bo, "car") == []


async def test_a_server_that_fails_costs_the_meaning_alone(meaning: World, server: EmbeddingServer) -> None:
    ada = await meaning.person("ada")
    memory = await push(ada, "The zebra crossed the road.")
    server.answer = (503, {})
    try:
        with pytest.raises(EmbeddingsFailed):
            await make(meaning)
        assert await ids(ada, "zebra") == [memory["id"]]
    finally:
        server.answer = None
    await make(meaning)
    assert await ids(ada, "zebra") == [memory["id"]]


async def test_a_typed_beginning_is_not_asked_for_its_meaning(
    meaning: World, server: EmbeddingServer
) -> None:
    ada = await meaning.person("ada")
    await push(ada, "Aardvarks dig.")
    asked = len(server.asked)
    (await ada.get("/v1/bar/search?q=aardv", headers=at(await meaning.hub(ada)))).ok()
    assert len(server.asked) == asked


async def test_what_is_in_the_archive_takes_nobodys_place(meaning: World) -> None:
    ada = await meaning.person("ada")
    hub = await meaning.hub(ada)
    left = [await push(ada, f"A kitten sleeps on a sofa made of words {n}.", hub) for n in range(2)]
    for n in range(110):
        await push(ada, f"Automobile {n}.", hub)
    await make(meaning)
    async with meaning.db.single() as tx:
        await tx.run(
            "UPDATE memories SET state = 'archived' WHERE space_id = $1::uuid AND content LIKE 'Auto%'",
            hub.id,
        )
    found = await ids(ada, "car", hub_ids=[hub.id], limit=100)
    assert set(found) == {memory["id"] for memory in left}
    assert len(await ids(ada, "car", hub_ids=[hub.id], limit=100, include_archived=True)) == 100
