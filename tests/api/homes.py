"""A whole installation of its own: a database, files and mails in a folder, and a chat service."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest_asyncio
from pytest import TempPathFactory

from guildhall.providers.email.outbox import KeptMessage, OutboxOnlyEmail
from tests import cluster as clusters
from tests.api.scan import find_everywhere
from tests.servers.stream_server import StreamServer, stream_server
from tests.world import Browser, World, open_world, settings_for

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + b"\x00" * 64


class Home(NamedTuple):
    world: World
    chat: StreamServer
    folder: Path

    async def settle(self) -> None:
        """Run every job there is, also those that are due only later."""
        for _ in range(3):
            async with self.world.db.single() as tx:
                await tx.run("UPDATE pgqueuer SET execute_after = now() WHERE status = 'queued'")
            await self.world.drain()

    async def mails(self, to: str) -> list[KeptMessage]:
        """The mails to an address, newest first."""
        outbox = self.world.house.work.email
        assert isinstance(outbox, OutboxOnlyEmail)
        return [mail for mail in await outbox.list_messages(1_000) if mail.to.lower() == to.lower()]

    async def sign_in(self, email: str, label: str = "laptop") -> tuple[Browser, dict[str, Any]]:
        """As a person does it, by the code in the mail."""
        nobody = self.world.nobody
        (await nobody.post("/api/auth/code", {"email": email})).ok(202)
        await self.world.drain()
        found = re.search(r"\b\d{6}\b", (await self.mails(email))[0].text)
        assert found is not None
        asked = {"email": email, "code": found[0], "label": label}
        made = (await nobody.post("/api/auth/session", asked)).ok(201)
        return Browser(self.world, made["token"]), made["user"]

    async def upload(self, person: Browser, purpose: str, filename: str, content: bytes = PNG) -> str:
        """The address of a stored file."""
        kind = "image/png" if content[:4] == PNG[:4] else "text/plain"
        asked = {"filename": filename, "contentType": kind, "sizeBytes": len(content), "purpose": purpose}
        intent = (await person.post("/api/uploads", asked)).ok(201)
        where = intent["uploadUrl"].removeprefix(self.world.house.service.public_url)
        sent = await self.world.nobody.call("PUT", where, content=content, headers=intent["headers"])
        assert sent.status == 204, sent
        return intent["url"]

    async def find(self, *words: str) -> list[str]:
        """Where these words stand: in any table, mail or file, or at the chat service."""
        found = await find_everywhere(self.world.owner_url, words)
        for path in self.folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes().lower()
                found += [f"{path}: {word}" for word in words if word.lower().encode() in content]
        at_the_chat = repr((self.chat.users, self.chat.channels)).lower()
        return found + [f"chat: {word}" for word in words if word.lower() in at_the_chat]

    def files(self) -> set[str]:
        """The names of all stored files."""
        blobs = self.folder / "blobs"
        return {str(path.relative_to(blobs)) for path in blobs.rglob("*") if path.is_file()}


@pytest_asyncio.fixture(scope="module")
async def home(
    cluster: clusters.Cluster, template: str, tmp_path_factory: TempPathFactory
) -> AsyncIterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    owner_url = await clusters.clone_database(cluster, template)
    try:
        async with stream_server() as chat:
            settings = settings_for(
                folder,
                clusters.app_url(cluster, owner_url),
                owner_url,
                CHAT_URL=chat.base_url,
                CHAT_KEY=chat.api_key,
                CHAT_SECRET=chat.secret,
            )
            async with open_world(settings) as world:
                yield Home(world, chat, folder)
    finally:
        await clusters.drop_database(cluster, owner_url)
