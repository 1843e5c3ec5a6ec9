"""Events by way of a real Redis: heard in every process, and caught up with after Redis was gone."""

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from guildhall.errors import Unavailable
from guildhall.events.event import tell_user
from guildhall.events.redis_bus import RedisBus
from tests import cluster as clusters
from tests.races.pair import two_processes
from tests.v1.listening import PATIENCE_S, listening
from tests.world import World, open_world, settings_for

# Debian's tools carry the server under the last of these names, and start none by themselves.
SERVER = next(filter(None, map(shutil.which, ("redis-server", "valkey-server", "redis-check-rdb"))), None)
pytestmark = [
    pytest.mark.skipif(SERVER is None, reason="no Redis here; `make redis` installs one"),
    pytest.mark.xdist_group("redis"),
]


class Server:
    """A Redis that listens on a socket in a folder of its own and keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._process: Process | None = None

    async def start(self) -> None:
        assert SERVER is not None
        options = ["--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no"]
        self._process = await asyncio.create_subprocess_exec(
            # It is what it is called.
            "redis-server",
            *options,
            executable=SERVER,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    _, writer = await asyncio.open_unix_connection(str(self.path))
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        """As a machine that loses power."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    # Not below the folder of the test, whose path may be too long for a socket.
    with TemporaryDirectory(prefix="gr-") as folder:
        server = Server(Path(folder))
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@pytest_asyncio.fixture(scope="module")
async def redis() -> AsyncIterator[Server]:
    async with running() as server:
        yield server


@pytest_asyncio.fixture(scope="module")
async def pair(
    redis: Server, cluster: clusters.Cluster, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("redis")
    url = clusters.app_url(cluster, database)
    async with two_processes(folder, url, database, REDIS_URL=redis.url) as world:
        yield world


async def test_what_one_process_commits_is_heard_in_the_others_and_nothing_else(pair: World) -> None:
    ada, bo = await pair.people("ada", "bo")
    # Two streams are in the two processes.
    async with listening(ada) as one, listening(ada) as other:
        for stream in (one, other):
            assert (await stream.next())[0] == "ready"
        hub = await pair.hub(ada)
        for stream in (one, other):
            name, event = await stream.next()
            assert (name, event["entity_id"], event["state"]) == ("hub.list.changed", hub.id, "created")
        with pytest.raises(ZeroDivisionError):
            async with pair.db.writing() as tx:
                tell_user(tx, ada.id, "hub.list.changed", actor=ada.id, state="never")
                _ = 1 / 0
        await pair.hub(bo)
        (await ada.delete(hub.url)).data(200)
        for stream in (one, other):
            assert (await stream.next())[1]["state"] == "deleted"


async def test_a_lost_redis_ends_streams_and_is_caught_up_with(redis: Server, pair: World) -> None:
    ada = await pair.person("ada")
    async with listening(ada) as stream:
        assert (await stream.next())[0] == "ready"
        await redis.stop()
        # Something may be missed from now on, so whoever listens is sent to look again.
        assert await stream.ended() == []
    # Work goes on meanwhile, and only listening waits.
    hub = await pair.hub(ada)
    refused = await ada.get("/v1/events/stream")
    assert (refused.status, refused.error) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    await redis.start()
    async with listening(ada) as stream:
        assert (await stream.next())[0] == "ready"
        # What could not be sent before may still come; nothing that was said since is missing.
        (await ada.patch(hub.url, {"name": "Afterwards"})).data(200)
        await stream.types_until("hub.list.changed", state="metadata_updated")


async def test_a_lost_redis_is_told_to_who_listens_and_listening_begins_anew() -> None:
    heard: list[bytes] = []
    gone = asyncio.Event()
    async with running() as redis:
        bus = RedisBus(redis.url, "a channel")
        await bus.listen(heard.append, gone.set)
        await redis.stop()
        async with asyncio.timeout(PATIENCE_S):
            await gone.wait()
        with pytest.raises(Unavailable):
            await bus.listen(heard.append, gone.set)
        await redis.start()
        await bus.listen(heard.append, gone.set)
        bus.send([b"again"])
        async with asyncio.timeout(PATIENCE_S):
            while heard != [b"again"]:
                await asyncio.sleep(0.01)
        await bus.aclose()


async def test_what_redis_could_not_take_is_sent_when_it_can() -> None:
    heard: list[bytes] = []
    async with running() as redis:
        listener = RedisBus(redis.url, "a channel")
        await listener.listen(heard.append, lambda: None)
        # The way to it that the sender knows leads nowhere yet.
        way = redis.path.with_name("way.sock")
        sender = RedisBus(f"unix://{way}", "a channel")
        sender.send([b"1", b"2"])
        await asyncio.sleep(0.1)
        sender.send([b"3"])
        assert heard == []
        way.symlink_to(redis.path)
        async with asyncio.timeout(PATIENCE_S):
            while heard != [b"1", b"2", b"3"]:
                await asyncio.sleep(0.01)
        await sender.aclose()
        await listener.aclose()


async def test_installations_that_share_a_redis_do_not_hear_each_other(redis: Server) -> None:
    ours: list[bytes] = []
    theirs: list[bytes] = []
    one, other = RedisBus(redis.url, "ours"), RedisBus(redis.url, "theirs")
    await one.listen(ours.append, lambda: None)
    await other.listen(theirs.append, lambda: None)
    one.send([b"1", b"2"])
    other.send([b"3"])
    async with asyncio.timeout(PATIENCE_S):
        while len(ours) + len(theirs) < 3:
            await asyncio.sleep(0.01)
    assert (ours, theirs) == ([b"1", b"2"], [b"3"])
    await one.aclose()
    await other.aclose()


async def test_a_service_whose_redis_is_not_there_does_all_but_tell(
    cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    nowhere = settings_for(
        tmp_path,
        clusters.app_url(cluster, database),
        database,
        REDIS_URL=f"unix://{tmp_path}/nothing.sock",
    )
    async with open_world(nowhere) as alone:
        ada = await alone.person("ada")
        await alone.hub(ada)
        assert (await ada.get("/v1/events/stream")).error == "unavailable"
