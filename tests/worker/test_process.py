"""The worker as a process: it loses and doubles nothing, and lets no job hold up the rest."""

import asyncio
import itertools
import os
import random
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from guildhall.db.migrate import migrate
from guildhall.errors import Unavailable
from guildhall.outbox import Handlers, Job, put
from guildhall.providers.postgres import EmbeddedPostgres
from guildhall.spaces.invites import revoke_all
from guildhall.spaces.jobs import SpaceChanged
from guildhall.worker import Work, drain, hold_sending, list_failed, release_sending, run_worker
from guildhall.worker.runner import retry_delay_s
from tests import cluster as clusters
from tests.servers.stream_server import ActThenDie, Fail, Slow, rate_limited
from tests.worker.benches import Hall, open_hall, open_hall_over, stop
from tests.world import Community, Person

LONG = os.environ.get("GUILDHALL_LONG") == "1"


class Noted(Job, frozen=True, kw_only=True):
    entrypoint = "test.noted"
    number: int


@asynccontextmanager
async def working(hall: Hall, handlers: Handlers | None = None) -> AsyncIterator[asyncio.Event]:
    """A worker in this process, over the same database."""
    ended = asyncio.Event()
    house = hall.world.house
    if handlers is not None:
        house = msgspec.structs.replace(house, handlers={**house.handlers, **handlers}, schedules=())
    running = asyncio.create_task(run_worker(house, ended))
    try:
        yield ended
    finally:
        ended.set()
        async with asyncio.timeout(20):
            await running


async def leave(hall: Hall, *jobs: Job) -> None:
    async with hall.world.db.single() as tx:
        await put(tx, *jobs)


async def invite(community: Community, by: Person, email: str) -> str:
    return (await by.post(f"{community.url}/invite", {"email": email, "role": "member"})).ok(201)["id"]


async def test_a_poisoned_job_rests_or_waits_and_delays_no_other(hall: Hall) -> None:
    done: list[int] = []

    async def note(_: Work, job: Noted) -> None:
        if job.number < 0:
            raise RuntimeError("always")
        done.append(job.number)

    await leave(hall, *(Noted(number=-1) for _ in range(15)))
    await hall.run(
        "INSERT INTO pgqueuer (priority, status, entrypoint, payload) VALUES (0, 'queued', 'test.noted', $1),"
        " (0, 'queued', 'test.noted', $2), (0, 'queued', 'test.noted', NULL)",
        b"not JSON",
        b'{"number": "1"}',
    )
    await leave(hall, *(Noted(number=number) for number in range(20)))
    async with working(hall, {Noted: note}):
        began = time.monotonic()
        while len(done) < 20:
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < 5
        assert sorted(done) == list(range(20))
        resting = await list_failed(hall.world.db)
        assert [job.reason for job in resting] == ["the job cannot be read"] * 3
        assert await hall.value("SELECT count(*) FROM pgqueuer WHERE attempts > 0") == 15


async def test_a_hanging_job_keeps_its_lease_and_delays_no_other(hall: Hall) -> None:
    done: list[int] = []

    async def note(_: Work, job: Noted) -> None:
        if job.number < 0:
            await asyncio.sleep(3600)
        done.append(job.number)

    await leave(hall, *(Noted(number=-1) for _ in range(4)), *(Noted(number=n) for n in range(10)))
    async with working(hall, {Noted: note}) as ended:
        async with asyncio.timeout(5):
            while len(done) < 10:
                await asyncio.sleep(0.02)
        began = time.monotonic()
        ended.set()
    assert time.monotonic() - began < 20
    assert await hall.value("SELECT count(*) FROM pgqueuer WHERE status = 'queued'") == 4


async def test_two_workers_run_each_job_once(hall: Hall) -> None:
    done: list[int] = []

    async def note(_: Work, job: Noted) -> None:
        await asyncio.sleep(random.random() / 50)
        done.append(job.number)

    await leave(hall, *(Noted(number=number) for number in range(200)))
    async with working(hall, {Noted: note}), working(hall, {Noted: note}):
        async with asyncio.timeout(20):
            await hall.settle()
    assert sorted(done) == list(range(200))


async def test_only_who_holds_a_job_may_end_it(hall: Hall) -> None:
    runs = 0

    async def note(_: Work, __: Noted) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            # The lease was lost meanwhile, and another worker is at it.
            await hall.run("UPDATE pgqueuer SET queue_manager_id = gen_random_uuid(), heartbeat = now()")

    await leave(hall, Noted(number=1))
    async with working(hall, {Noted: note}):
        await asyncio.sleep(1.5)
        assert await hall.value("SELECT count(*) FROM pgqueuer WHERE status = 'picked'") == 1
        await hall.run("UPDATE pgqueuer SET heartbeat = now() - interval '61 seconds'")
        await hall.settle(10)
    assert runs == 2


async def test_healthy_delivery_takes_less_than_five_seconds(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    async with working(hall):
        await hall.settle()
        waits: list[float] = []
        for number in range(30):
            began, known = time.monotonic(), len(hall.mail.by_key)
            await invite(community, ada, f"p{number}@example.org")
            while len(hall.mail.by_key) == known:
                await asyncio.sleep(0.005)
            waits.append(time.monotonic() - began)
    assert max(waits) < 5
    assert statistics.median(waits) < 1


async def test_nothing_is_claimed_while_sending_is_held(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    db = hall.world.db
    await hold_sending(db)
    await invite(community, ada, "bo@example.org")
    async with working(hall):
        await asyncio.sleep(2.5)
        assert hall.mail.requests == [] and hall.chat.calls == []
        await release_sending(db)
        await hall.settle(10)
        assert len(hall.mail.by_key) == 1
        await hold_sending(db)
        await asyncio.sleep(3.5)
        await invite(community, ada, "cy@example.org")
        await asyncio.sleep(1)
        assert len(hall.mail.by_key) == 1
        assert await revoke_all(db) == 2
        await release_sending(db)
        await hall.settle(10)
    assert len(hall.mail.by_key) == 1
    assert await hall.value("SELECT count(*) FROM audit WHERE action = 'invite.revoke'") == 2


async def test_health_says_whether_a_worker_lives(hall: Hall) -> None:
    nobody = hall.world.nobody
    assert (await nobody.get("/api/health")).status == 200
    hall.world.db.watching_since -= 61
    down = await nobody.get("/api/health")
    assert down.status == 503
    assert down.json["checks"] == {"database": "ok", "worker": "down"}
    async with working(hall):
        async with asyncio.timeout(5):
            while (await nobody.get("/api/health")).status != 200:
                await asyncio.sleep(0.05)
        hall.world.db.trips = 0
        await nobody.get("/api/health")
        assert hall.world.db.trips == 1
    assert (await nobody.get("/api/health")).status == 503
    await hall.run("INSERT INTO workers VALUES (gen_random_uuid(), now() - interval '61 seconds')")
    assert (await nobody.get("/api/health")).status == 503


def test_retries_wait_exponentially_with_jitter_and_as_long_as_was_asked() -> None:
    for attempts in range(60):
        delays = [retry_delay_s(attempts) for _ in range(200)]
        assert min(delays) >= 1
        assert max(delays) <= min(900, 2 ** (attempts + 1))
        assert len(set(delays)) > 100
    assert max(retry_delay_s(20) for _ in range(200)) > 700
    assert min(retry_delay_s(0, 300) for _ in range(200)) >= 300


@pytest.mark.timeout(180)
async def test_a_provider_that_was_down_gets_its_backlog_soon_after_it_is_back(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    hall.mail.fault = "is broken"
    async with working(hall):
        for number in range(20):
            await invite(community, ada, f"p{number}@example.org")
        await asyncio.sleep(3)
        # As after ten minutes, when the backoff has grown long.
        await hall.run(
            "UPDATE pgqueuer SET attempts = 10, execute_after = now() + interval '10 minutes'"
            " WHERE entrypoint = 'invite.made'"
        )
        hall.mail.fault = None
        began = time.monotonic()
        await hall.settle(60)
    assert time.monotonic() - began < 60
    assert len(hall.mail.by_key) == 20


async def test_a_provider_that_asks_for_time_is_left_alone_for_so_long(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    await hall.world.drain()
    hall.mail.fault = "is busy"
    await invite(community, ada, "bo@example.org")
    hall.chat.faults.on("*", "*", rate_limited(5), times=None)
    await leave(hall, SpaceChanged(space_id=UUID(community.id)))
    await hall.run("UPDATE chat_spaces SET again = true")
    await hall.run("UPDATE chat_channels SET trusted = false")
    async with working(hall):
        await asyncio.sleep(3)
        waits = await hall.value(
            "SELECT jsonb_object_agg(entrypoint, extract(epoch FROM execute_after - updated)) FROM pgqueuer"
        )
    waits = msgspec.json.decode(waits)
    assert waits["invite.made"] >= 6.9
    assert waits["space.changed"] >= 3


async def test_the_worker_comes_back_by_itself_when_the_database_does(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    hall.chat.latency_s = 0.1
    async with working(hall):
        await hall.settle()
        for number in range(6):
            await invite(community, ada, f"p{number}@example.org")
            await everyone_out(hall)
        await hall.settle(20)
        # The notices come again as well.
        await asyncio.sleep(1.5)
        began = time.monotonic()
        await invite(community, ada, "last@example.org")
        await hall.settle(10)
        assert time.monotonic() - began < 2.5
    assert len(hall.mail.by_key) == 7
    assert hall.there() == await hall.entitled()


async def everyone_out(hall: Hall) -> None:
    """End every connection to the database but the one that says so, as a restart does."""
    with suppress(Unavailable):
        await hall.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for _ in range(4):
        with suppress(Unavailable):
            await hall.value("SELECT 1")


@pytest.mark.timeout(180)
async def test_a_database_killed_under_load_costs_no_job_and_needs_no_new_worker() -> None:
    # A short path, as the server's socket lies in it.
    with tempfile.TemporaryDirectory(prefix="guildhall-") as folder:
        postgres = EmbeddedPostgres(Path(folder))
        cluster = await asyncio.to_thread(postgres.start)
        try:
            await asyncio.to_thread(migrate, cluster.owner_url)
            async with open_hall_over(cluster.owner_url, cluster.app_url, Path(folder)) as hall:
                await through_two_crashes(hall, postgres.pgdata)
        finally:
            await asyncio.to_thread(postgres.stop)


async def through_two_crashes(hall: Hall, pgdata: Path) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    acknowledged: set[str] = set()
    crashes = iter((20, 40))
    crash = next(crashes)
    async with working(hall), asyncio.timeout(120):
        for number in itertools.count():
            if len(acknowledged) == crash:
                os.kill(int((pgdata / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
                crash = next(crashes, 0)
            made = await ada.post(
                f"{community.url}/invite", {"email": f"p{number}@example.org", "role": "member"}
            )
            if made.status == 201:
                acknowledged.add(f"invite:{made.json['id']}:0")
            else:
                assert made.status == 503, made
                await asyncio.sleep(0.2)
            if len(acknowledged) == 60:
                break
            await asyncio.sleep(0.02)
        while True:
            with suppress(Unavailable):
                if not await hall.waiting():
                    break
            await asyncio.sleep(0.2)
    assert acknowledged <= set(hall.mail.by_key)
    assert len(hall.mail.by_key) == await hall.value("SELECT count(*) FROM invites")
    assert hall.there() == await hall.entitled()


@pytest.mark.timeout(300 if not LONG else 3600)
async def test_killing_workers_at_any_instant_loses_and_doubles_nothing(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    kills = 50 if LONG else 5
    async with open_hall(cluster, template, tmp_path) as hall:
        chance = random.Random(os.urandom(8))
        ada = await hall.world.person("Ada")
        communities = [await hall.world.community(ada) for _ in range(5)]
        expected: set[str] = set()
        hall.chat.latency_s = 0.01
        process = await hall.start_worker()
        number = 0
        for _ in range(kills):
            deadline = time.monotonic() + chance.uniform(0.5, 2.5)
            while time.monotonic() < deadline:
                community = chance.choice(communities)
                number += 1
                expected.add(f"invite:{await invite(community, ada, f'p{number}@example.org')}:0")
                person = await hall.world.person("Bo")
                await hall.world.join(community.id, person, "member")
                await leave(hall, SpaceChanged(space_id=UUID(community.id)))
            await stop(process, signal.SIGKILL)
            # What the dead one held is free when its lease is over; a test has no minute to wait.
            await hall.run(
                "UPDATE pgqueuer SET heartbeat = now() - interval '61 seconds' WHERE status = 'picked'"
            )
            await hall.run(
                "UPDATE chat_spaces SET held_until = now() - interval '1 second' WHERE holder IS NOT NULL"
            )
            process = await hall.start_worker()
        await hall.settle(120)
        assert await stop(process) == 0

        assert set(hall.mail.by_key) == expected
        assert all(len(mail.recipients) == 1 for mail in hall.mail.by_key.values())
        assert hall.there() == await hall.entitled()
        assert len(hall.chat.created) == len(set(hall.chat.created)) == 5
        assert await list_failed(hall.world.db) == []


async def test_a_terminated_worker_ends_in_time_and_leaves_its_work_to_others(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    await hall.world.community(ada)
    process = await hall.start_worker()
    await hall.settle()
    hall.chat.faults.on("*", "*", Slow(30), times=None)
    await hall.world.community(ada)
    await asyncio.sleep(1)
    began = time.monotonic()
    assert await stop(process) == 0
    assert time.monotonic() - began < 20
    hall.chat.faults.clear()
    await hall.world.drain()
    assert hall.there() == await hall.entitled()


async def test_a_chat_service_that_refuses_for_good_puts_the_job_to_rest(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    hall.chat.faults.on("*", "*", Fail(401, 5), times=None)
    await hall.world.community(ada)
    await hall.world.drain()
    (resting,) = await list_failed(hall.world.db)
    assert resting.kind == "space.changed"
    hall.chat.faults.clear()
    hall.chat.faults.on("*", "/channels/*", ActThenDie())
    await hall.run("UPDATE pgqueuer SET status = 'queued'")
    await drain(hall.world.house)
    assert hall.there() == await hall.entitled()
