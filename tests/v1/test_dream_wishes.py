"""What an owner wishes of dreams holds in their hubs, whoever has them tidied up."""

from typing import Any

from tests.v1.test_dreams import actions, dream
from tests.v1.test_memories import push
from tests.world import Hub, Person, World

WATER = "Water the tomatoes early in the morning before the sun gets hot, and never at noon."


async def wish(person: Person, **wanted: Any) -> None:
    (await person.patch("/v1/settings", wanted)).data(200)


async def merged(world: World, owner: Person, hub: Hub) -> int:
    return len(await actions(owner, await dream(world, hub), "merge"))


async def test_copies_are_as_alike_as_the_hubs_owner_wants_them(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(ada, admins=[bo])
    await push(ada, WATER, hub)
    await push(ada, f"{WATER}\nUse rain water, which the barrel holds.", hub)
    await wish(bo, dreams_similarity_threshold=0.5)
    await wish(ada, dreams_similarity_threshold=0.99)
    assert await merged(world, ada, hub) == 0
    await wish(bo, dreams_similarity_threshold=0.99)
    await wish(ada, dreams_similarity_threshold=0.7)
    assert await merged(world, ada, hub) == 1


async def test_kinds_that_the_owner_keeps_out_are_left_alone(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for text in (WATER, WATER.replace("early", "early,")):
        await push(ada, text, hub, kind="procedural")
    await wish(ada, dreams_excluded_kinds=["procedural"])
    assert await merged(world, ada, hub) == 0
    await wish(ada, dreams_excluded_kinds=[])
    assert await merged(world, ada, hub) == 1


async def test_who_wants_no_news_is_told_of_no_dream(world: World) -> None:
    ada = await world.person("ada")
    hub = await world.hub(ada)
    for on, told in ((False, 0), (True, 1)):
        await wish(ada, notifications_enabled=on)
        await push(ada, f"The season ends when it is {on}.", hub)
        await dream(world, hub)
        rows = (await ada.get("/v1/notifications?kind=dream_run_completed")).data(200)["notifications"]
        assert len(rows) == told
