"""A dream goes on however often its worker is killed, and comes to what it comes to without that."""

import asyncio
import signal
from uuid import UUID

from guildhall import outbox
from guildhall.db import new_id
from guildhall.dreams.jobs import DreamAsked, DreamsDue, dream_of_all
from tests.v1.test_dreams import actions, digest, dream, garden
from tests.v1.test_memories import push
from tests.worker.benches import Hall, stop

LATE = "UPDATE pgqueuer SET heartbeat = now() - interval '5 minutes' WHERE status = 'picked'"


async def test_a_killed_worker_s_dream_is_gone_on_with(hall: Hall) -> None:
    world = hall.world
    ada = await world.person("ada")
    hub = await garden(world, ada)
    before = await digest(world, hub)
    run = new_id()
    async with world.db.writing() as tx:
        await outbox.put(tx, DreamAsked(run_id=run, space_id=UUID(hub.id), asked_by=ada.id))
    # Held up in the midst of its first action, in which it is killed.
    async with world.db.writing() as held:
        await held.run("SELECT FROM memories WHERE space_id = $1::uuid FOR NO KEY UPDATE", hub.id)
        worker = await hall.start_worker()
        async with asyncio.timeout(60):
            # Asked here, since a transaction that does nothing for long is ended.
            while not await held.value("SELECT count(*) FROM dream_actions WHERE run_id = $1", run):
                await asyncio.sleep(0.05)
        await stop(worker, signal.SIGKILL)
    assert await hall.value("SELECT status FROM dream_runs WHERE id = $1", run) == "running"
    assert (
        await hall.value("SELECT count(*) FROM dream_actions WHERE run_id = $1 AND status = 'applied'", run)
        == 0
    )
    # Its lease is over, and another worker takes the job.
    await hall.run(LATE)
    worker = await hall.start_worker()
    try:
        async with asyncio.timeout(60):
            while await hall.value("SELECT status FROM dream_runs WHERE id = $1", run) == "running":
                await asyncio.sleep(0.05)
    finally:
        await stop(worker)
    found = await actions(ada, str(run))
    assert {action["status"] for action in found} == {"applied", "waiting"}
    assert len({action["action_type"] for action in found}) >= 3
    (await ada.post(f"/v1/dreams/{run}/undo")).data(200)
    assert await digest(world, hub) == before


async def test_every_night_brings_a_dream_where_something_is_new(hall: Hall) -> None:
    world = hall.world
    ada = await world.person("ada")
    fresh, quiet, off = [await garden(world, ada) for _ in range(3)]
    await world.hub(ada)
    (await ada.patch(off.url, {"settings": {"dreams_enabled": False}})).data()
    await dream(world, quiet)

    async def dreamt() -> list[str]:
        rows = (await ada.get("/v1/dreams")).data()["runs"]
        return [row["hub_id"] for row in rows if row["status"] != "skipped"]

    await dream_of_all(world.house.work, DreamsDue())
    # Twice in a night is once.
    await dream_of_all(world.house.work, DreamsDue())
    await world.drain()
    assert sorted(await dreamt()) == sorted([fresh.id, quiet.id])
    # A day later, where nothing is new, what was too much for one run is gone on with.
    await hall.run("UPDATE dream_runs SET started_at = started_at - interval '1 day'")
    await hall.run("UPDATE memories SET created_at = created_at - interval '3 days'")
    await dream_of_all(world.house.work, DreamsDue())
    await world.drain()
    assert len(await dreamt()) == 2
    await hall.run(f"UPDATE dream_runs SET more_to_compare = true WHERE space_id = '{fresh.id}'")
    await dream_of_all(world.house.work, DreamsDue())
    await world.drain()
    assert sorted(await dreamt()) == sorted([fresh.id, fresh.id, quiet.id])


async def test_what_dreams_know_of_somebody_goes_with_them(hall: Hall) -> None:
    world = hall.world
    ada, bo = await world.people("ada", "bo")
    hub = await world.hub(bo, admins=[ada])
    for n in range(3):
        await push(ada, f"Compost wants turning, lesson {n}.")
        await push(ada, f"Compost wants turning, lesson {n}.", hub)
    (own,) = [row["hub"]["id"] for row in (await ada.get("/v1/hubs")).data() if row["hub"]["id"] != hub.id]
    for space in (own, hub):
        await dream(world, space)
    assert await hall.value("SELECT count(*) FROM dream_runs WHERE space_id = $1::uuid", own) == 1
    told = "SELECT count(*) FROM notifications WHERE recipient_user_id = $1"
    assert await hall.value(told, ada.id) > 0
    (await ada.delete("/api/users/me")).ok(204)
    assert await hall.value("SELECT count(*) FROM dream_runs WHERE space_id = $1::uuid", own) == 0
    assert await hall.value("SELECT count(*) FROM topics WHERE space_id = $1::uuid", own) == 0
    assert await hall.value(told, ada.id) == 0
    # What is the hub's stays in it.
    assert (await bo.get(f"/v1/topics?hub_id={hub.id}")).data()["topics"][0]["memory_count"] == 3
