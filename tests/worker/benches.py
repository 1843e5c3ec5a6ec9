"""A world of one's own with a chat service and a mail service that record, and a real worker for it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from guildhall.settings import read_settings
from tests import cluster as clusters
from tests.providers.email_benches import API_KEY, SENDER, ResendServer
from tests.providers.http_server import serve_http
from tests.servers.stream_server import StreamServer, stream_server
from tests.world import World, open_world

ROOT = Path(__file__).parents[2]


class Hall:
    """An installation: its world, and the outside services as they see it."""

    def __init__(
        self, world: World, variables: dict[str, str], chat: StreamServer, mail: ResendServer
    ) -> None:
        self.world = world
        self.variables = variables
        self.chat = chat
        self.mail = mail

    async def value(self, sql: Any, *args: object) -> Any:
        async with self.world.db.single() as tx:
            return await tx.value(sql, *args)

    async def run(self, sql: Any, *args: object) -> int:
        async with self.world.db.single() as tx:
            return await tx.run(sql, *args)

    async def entitled(self) -> dict[tuple[str, str], dict[str, str]]:
        """Every channel there should be, with everyone who should be in it, as the database has it."""
        async with self.world.db.single() as tx:
            rows = await tx.connection.fetch(
                "SELECT 'guildhall-space' AS type, s.id::text, m.user_id,"
                " CASE m.role WHEN 'member' THEN 'channel_member' ELSE 'channel_moderator' END AS role"
                " FROM spaces s LEFT JOIN members m ON m.space_id = s.id AND m.status = 'active'"
                "  AND EXISTS (SELECT FROM users u WHERE u.id = m.user_id AND u.status = 'active')"
                " WHERE s.kind = 'community' AND s.deleted_at IS NULL UNION ALL"
                " SELECT 'guildhall-group', g.id::text, m.user_id,"
                " CASE m.role WHEN 'member' THEN 'channel_member' ELSE 'channel_moderator' END"
                " FROM groups g JOIN spaces s ON s.id = g.space_id AND s.deleted_at IS NULL"
                " LEFT JOIN group_members m ON m.group_id = g.id"
                "  AND EXISTS (SELECT FROM users u WHERE u.id = m.user_id AND u.status = 'active')"
            )
        wanted: dict[tuple[str, str], dict[str, str]] = {}
        for row in rows:
            members = wanted.setdefault((row["type"], row["id"]), {})
            if row["user_id"] is not None:
                members[row["user_id"]] = row["role"]
        return wanted

    def there(self) -> dict[tuple[str, str], dict[str, str]]:
        return {key: dict(channel.members) for key, channel in self.chat.channels.items()}

    async def waiting(self) -> int:
        return await self.value("SELECT count(*) FROM pgqueuer WHERE status <> 'failed'")

    async def hurry(self) -> None:
        """Let everything come whose backoff would take longer than a test has."""
        await self.run("UPDATE pgqueuer SET execute_after = now() WHERE status = 'queued'")

    async def settle(self, seconds: float = 30.0) -> None:
        """Wait until a running worker has nothing left."""
        async with asyncio.timeout(seconds):
            while await self.waiting():
                await asyncio.sleep(0.05)

    async def start_worker(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, **{f"GUILDHALL_{k}": v for k, v in self.variables.items()}}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.worker.crew",
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while line := await process.stdout.readline():
                if line.strip() == b"ready":
                    break
        return process


async def stop(process: asyncio.subprocess.Process, how: signal.Signals = signal.SIGTERM) -> int:
    if process.returncode is None:
        process.send_signal(how)
    async with asyncio.timeout(25):
        return await process.wait()


@asynccontextmanager
async def open_hall(
    cluster: clusters.Cluster, template: str, folder: Path, *, with_chat: bool = True
) -> AsyncIterator[Hall]:
    owner_url = await clusters.clone_database(cluster, template)
    app_url = clusters.app_url(cluster, owner_url)
    try:
        async with open_hall_over(owner_url, app_url, folder, with_chat=with_chat) as hall:
            yield hall
    finally:
        await clusters.drop_database(cluster, owner_url)


@asynccontextmanager
async def open_hall_over(
    owner_url: str, app_url: str, folder: Path, *, with_chat: bool = True
) -> AsyncIterator[Hall]:
    """A hall over a database that has the schema."""
    mail = ResendServer()
    async with stream_server() as chat, serve_http(mail.handle) as mail_url:
        services = {
            "EMAIL": "resend",
            "RESEND_API_KEY": API_KEY,
            "RESEND_URL": mail_url,
            "EMAIL_FROM": SENDER,
        }
        if with_chat:
            services |= {"CHAT_KEY": chat.api_key, "CHAT_SECRET": chat.secret, "CHAT_URL": chat.base_url}
        variables = {
            "DATA_DIR": str(folder),
            "DATABASE_URL": app_url,
            "DATABASE_OWNER_URL": owner_url,
            "SECRET": "a secret for tests alone, 32 bytes and more",
            "RATE_LIMIT_SCALE": "0",
            "LOG_LEVEL": "error",
            **services,
        }
        async with open_world(read_settings({}, variables)) as world:
            yield Hall(world, variables, chat, mail)


@pytest.fixture
async def hall(cluster: clusters.Cluster, template: str, tmp_path: Path) -> AsyncIterator[Hall]:
    async with open_hall(cluster, template, tmp_path) as hall:
        yield hall
