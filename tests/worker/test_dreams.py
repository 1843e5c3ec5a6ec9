"""A dream goes on however often its worker is killed, and comes to what it comes to without that."""

import asyncio
import signal
from uuid import UUID

from guildhall import outbox
from guildhall.db import new_id
from guildhall.dreams.jobs import DreamAsked
from tests.v1.test_dreams import actions, digest, garden
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
        await held.run("SELECT FROM memories WHERE space_id = $1::uuid FOR UPDATE", hub.id)
        worker = await hall.start_worker()
        async with asyncio.timeout(20):
            while not await hall.value("SELECT count(*) FROM dream_actions WHERE run_id = $1", run):
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
        async with asyncio.timeout(30):
            while await hall.value("SELECT status FROM dream_runs WHERE id = $1", run) == "running":
                await asyncio.sleep(0.05)
    finally:
        await stop(worker)
    found = await actions(ada, str(run))
    assert {action["status"] for action in found} == {"applied", "waiting"}
    assert len({action["action_type"] for action in found}) >= 3
    (await ada.post(f"/v1/dreams/{run}/undo")).data(200)
    assert await digest(world, hub) == before
