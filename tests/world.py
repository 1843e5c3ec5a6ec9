"""The service as its users meet it: people with sessions, over the whole application and a real database."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from guildhall.db import Db
from guildhall.settings import Settings, read_settings
from guildhall.wiring import House, build_edge, open_house
from guildhall.worker import drain

ORIGIN = "http://localhost:3002"


class Reply:
    """An answer, with what tests ask of it most."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.headers = response.headers

    @property
    def json(self) -> Any:
        return self.response.json()

    @property
    def error(self) -> str | None:
        """The code of a refusal."""
        if self.status < 400:
            return None
        body = self.json
        return body["error"]["code"] if "error" in body else body["code"]

    @property
    def details(self) -> dict[str, Any]:
        """What a refusal on `/v1` says beside its code."""
        return self.json["error"].get("details", {})

    @property
    def fields(self) -> dict[str, str]:
        """The pointers of the bad fields, and what is wrong with each."""
        return {item["pointer"]: item["code"] for item in self.json.get("errors", [])}

    def __repr__(self) -> str:
        return f"<{self.status} {self.response.text[:400]}>"

    def data(self, status: int | None = None) -> Any:
        """What is in the envelope of a success on `/v1`; fails the test otherwise."""
        return self.ok(status)["data"]

    def ok(self, status: int | None = None) -> Any:
        """The body of a success; fails the test otherwise."""
        assert self.status == status if status else self.status < 300, self
        return self.json if self.response.content else None


class Browser:
    """Calls the service, with or without a session."""

    def __init__(self, world: "World", token: str | None = None) -> None:
        self.world = world
        self.token = token

    async def call(self, method: str, path: str, body: Any = None, **extra: Any) -> Reply:
        headers = dict(extra.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            extra["content"] = msgspec.json.encode(body)
            headers.setdefault("Content-Type", "application/json")
        return Reply(await self.world.client.request(method, path, headers=headers, **extra))

    async def get(self, path: str, **extra: Any) -> Reply:
        return await self.call("GET", path, **extra)

    async def post(self, path: str, body: Any = None, **extra: Any) -> Reply:
        return await self.call("POST", path, body, **extra)

    async def patch(self, path: str, body: Any = None, **extra: Any) -> Reply:
        return await self.call("PATCH", path, body, **extra)

    async def delete(self, path: str, body: Any = None, **extra: Any) -> Reply:
        return await self.call("DELETE", path, body, **extra)


class Person(Browser):
    """Somebody with an account and a session."""

    def __init__(self, world: "World", name: str, user_id: str, email: str, token: str) -> None:
        super().__init__(world, token)
        self.name = name
        self.id = user_id
        self.email = email


class Space:
    """A space as its members use it."""

    def __init__(self, world: "World", body: dict[str, Any], url: str) -> None:
        self.world = world
        self.id: str = body["id"]
        self.url = f"{url}/{self.id}"
        self.body = body

    async def roles(self) -> dict[str, str]:
        """Who is what, by name, as the database has it."""
        async with self.world.db.reading() as read:
            rows = await read.connection.fetch(
                "SELECT u.display_name, m.role FROM members m JOIN users u ON u.id = m.user_id"
                " WHERE m.space_id = $1::uuid ORDER BY m.rank, u.display_name",
                self.id,
            )
        return {row["display_name"]: row["role"] for row in rows}


class Community(Space):
    def __init__(self, world: "World", body: dict[str, Any]) -> None:
        super().__init__(world, body, "/api/communities")


class Hub(Space):
    def __init__(self, world: "World", body: dict[str, Any]) -> None:
        super().__init__(world, body, "/v1/hubs")


class World:
    """One running application. People and spaces made in it belong to the test alone."""

    def __init__(self, house: House, client: httpx.AsyncClient, owner_url: str) -> None:
        self.house = house
        self.client = client
        self.owner_url = owner_url
        self.nobody = Browser(self)

    @property
    def db(self) -> Db:
        return self.house.db

    async def drain(self) -> None:
        """Run the jobs that are waiting, and those they leave, until none is left."""
        await drain(self.house)

    async def person(self, name: str, *, verified: bool = True) -> Person:
        """A new person with a session of the embedded issuer."""
        mark = secrets.token_hex(6)
        user_id, session_id, email = f"user_{mark}", f"sess_{mark}", f"{name}.{mark}@example.org"
        issuer = self.house.service.issuer
        assert issuer is not None
        async with self.db.writing() as tx:
            await tx.run(
                "INSERT INTO users (id, issuer, display_name, email, email_verified)"
                " VALUES ($1, $2, $3, $4, $5)",
                user_id,
                issuer.issuer,
                name,
                email,
                verified,
            )
            await tx.run(
                "INSERT INTO sessions (id, user_id, label, expires_at)"
                " VALUES ($1, $2, 'test', now() + interval '1 day')",
                session_id,
                user_id,
            )
        token = issuer.issue(user_id, session_id, now=time.time(), lifetime_s=3600)
        return Person(self, name, user_id, email, token)

    async def people(self, *names: str) -> list[Person]:
        return [await self.person(name) for name in names]

    async def community(
        self,
        owner: Person,
        *,
        admins: list[Person] | None = None,
        moderators: list[Person] | None = None,
        members: list[Person] | None = None,
        **fields: Any,
    ) -> Community:
        """A community with these members, who are put in directly."""
        body = (await owner.post("/api/communities", {"name": "Gardeners", **fields})).ok(201)
        for role, group in (("admin", admins), ("moderator", moderators), ("member", members)):
            for person in group or []:
                await self.join(body["id"], person, role)
        return Community(self, body)

    async def hub(
        self,
        owner: Person,
        *,
        admins: list[Person] | None = None,
        contributors: list[Person] | None = None,
        viewers: list[Person] | None = None,
        **fields: Any,
    ) -> Hub:
        """A team hub with these members, who are put in directly."""
        wanted = {"name": "Orchard", "slug": f"orchard-{secrets.token_hex(6)}", **fields}
        body = (await owner.post("/v1/hubs", wanted)).data(201)
        for role, group in (("admin", admins), ("contributor", contributors), ("viewer", viewers)):
            for person in group or []:
                await self.join(body["id"], person, role)
        return Hub(self, body)

    async def join(self, space_id: str, person: Person, role: str) -> None:
        async with self.db.writing() as tx:
            await tx.run(
                "INSERT INTO members (space_id, kind, user_id, role)"
                " SELECT id, kind, $2, $3 FROM spaces WHERE id = $1::uuid",
                space_id,
                person.id,
                role,
            )


def scope_of(method: str, target: str, *headers: tuple[str, str]) -> dict[str, Any]:
    """A request as a server hands it over, for a test that reads or writes its bodies by itself."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (("host", "localhost"), *headers)],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3002),
        "state": {},
    }


def variables_for(data_dir: Path, app_url: str, owner_url: str, **more: str) -> dict[str, str]:
    """Variables for an application over a test database; `more` are further ones without their prefix."""
    return {
        "DATA_DIR": str(data_dir),
        "DATABASE_URL": app_url,
        "DATABASE_OWNER_URL": owner_url,
        "SECRET": "a secret for tests alone, 32 bytes and more",
        "RATE_LIMIT_SCALE": "0",
        "LOG_LEVEL": "error",
        **more,
    }


def settings_for(data_dir: Path, app_url: str, owner_url: str, **more: str) -> Settings:
    """The settings that these variables make."""
    return read_settings({}, variables_for(data_dir, app_url, owner_url, **more))


@asynccontextmanager
async def open_world(settings: Settings) -> AsyncIterator[World]:
    async with open_house(settings) as house:
        app: Any = build_edge(house)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
            yield World(house, client, settings.database.owner_url or "")
