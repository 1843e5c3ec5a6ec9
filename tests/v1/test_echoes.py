"""What an agent was just shown is not pushed as if it were new, and what is new is."""

import pytest

from tests.v1.test_memories import at, key_of, push
from tests.world import Hub, Person, World

TOLD = (
    "The quokka sanctuary opens at nine on Tuesday and gets a new filter each month; "
    'its keeper says: "Don\'t feed them 3.5 kg of hay, feed -5 leaves of max_size a_b."'
)


async def told_and_shown(world: World) -> tuple[Person, Hub, str, Person]:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, contributors=[bo])
    told = await push(ada, TOLD, hub)
    return ada, hub, told["id"], bo


@pytest.mark.parametrize(
    "again",
    [
        TOLD,
        TOLD.upper(),
        TOLD.replace(" on Tuesday and", ", on Tuesday, and"),
        "> " + TOLD.replace("; ", ";\n> "),
        "- **" + TOLD[:79] + "**",
        f"“{TOLD}”",
        TOLD.replace("'", "’").replace('"', "”"),
        f"I learned: {TOLD}",
        f"Note to self: {TOLD}",
        f"I've just learned that {TOLD}",
        f"According to my notes, {TOLD}",
        f"FYI — {TOLD}",
        "The quokka sanctuary opens at nine on Tuesday!",
    ],
)
async def test_a_repeat_is_one_however_it_is_quoted(world: World, again: str) -> None:
    _, hub, told, bo = await told_and_shown(world)
    key = await key_of(bo, hub_ids=[hub.id])
    (await key.post("/v1/recall", {"query": "quokka sanctuary"})).data(200)
    assert (await key.post("/v1/memories", {"content": again})).data(200)["id"] == told


@pytest.mark.parametrize(
    "news",
    [
        TOLD.replace("Tuesday", "Friday"),
        TOLD.replace("nine", "ten"),
        TOLD.replace("3.5", "35"),
        TOLD.replace("-5", "5"),
        TOLD.replace("a_b", "ab"),
        TOLD.replace("Don't", "Do"),
        f"It is no longer true that {TOLD}",
        f"Bo said that {TOLD}",
        f"{TOLD} Since June it is closed.",
        "Quokka",
    ],
)
async def test_what_differs_in_a_word_is_news(world: World, news: str) -> None:
    _, hub, told, bo = await told_and_shown(world)
    key = await key_of(bo, hub_ids=[hub.id])
    (await key.post("/v1/recall", {"query": "quokka sanctuary"})).data(200)
    assert (await push(key, news))["id"] != told


async def test_what_is_said_in_a_conversation_is_kept_whatever_it_repeats(world: World) -> None:
    _, hub, told, bo = await told_and_shown(world)
    key = await key_of(bo, hub_ids=[hub.id])
    (await key.post("/v1/recall", {"query": "quokka sanctuary"})).data(200)
    words = "The quokka sanctuary opens at nine"
    turn = await push(key, words, thread_id="call7", seq=3, speaker="Bo")
    assert turn["id"] != told and (turn["seq"], turn["speaker"]) == (3, "Bo")
    last = await push(key, words, thread_id="call7", speaker="Cy")
    assert (last["seq"], last["speaker"]) == (4, "Cy")
    assert len((await bo.get("/v1/memories", headers=at(hub))).data()["memories"]) == 3
