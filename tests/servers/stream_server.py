"""A small chat service on a loopback port that answers as Stream's documented REST API does.

It keeps people, channels, members, roles, channel types and revocations; records every call; and can be
told to be slow, to fail, to act and then drop the connection, and more. It judges user tokens and grants,
so a test can ask what a given token may do. `python -m tests.servers.stream_server` runs it alone.
"""

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import jwt

from guildhall.providers.chat import ChatSettings
from guildhall.secret import Secret

USER_ID = re.compile(r"[A-Za-z0-9@_-]{1,255}")
TYPE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
CHANNEL_ID = re.compile(r"[A-Za-z0-9_!-]{1,64}")
MAX_OFFSET = 10_000

# What a new type grants when nothing else is asked for: open to everybody, as the service's own types are.
DEFAULT_GRANTS = {
    "user": ["create-channel", "read-channel", "add-own-channel-membership", "create-message"],
    "guest": ["read-channel"],
    "anonymous": ["read-channel"],
    "admin": ["read-channel", "create-message", "update-channel-members", "delete-message"],
    "channel_member": ["read-channel", "create-message", "remove-own-channel-membership"],
    "channel_moderator": ["read-channel", "create-message", "update-channel-members"],
}


# Faults. Each says what happens to the calls it is set on instead of, or besides, what should.
@dataclass(frozen=True)
class Slow:
    seconds: float


@dataclass(frozen=True)
class Fail:
    """No effect, and this answer. Give `headers` for Retry-After or x-ratelimit-reset."""

    status: int
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Die:
    """No effect; the connection is dropped."""


@dataclass(frozen=True)
class ActThenDie:
    """The effect happens; the connection is dropped instead of an answer."""


@dataclass(frozen=True)
class ActTwice:
    """The effect happens twice, as if the network had repeated the request."""


@dataclass(frozen=True)
class Redirect:
    location: str


@dataclass(frozen=True)
class Oversize:
    """The effect happens; the answer is valid JSON of this many bytes."""

    size_bytes: int = 2 * 1024 * 1024


@dataclass(frozen=True)
class Garble:
    """The effect happens; the answer is this instead of the JSON due."""

    content: bytes = b"<html>bad gateway</html>"
    content_type: str = "text/html"
    status: int = 200


@dataclass(frozen=True)
class Drip:
    """The effect happens; the answer comes a byte at a time."""

    pause_s: float = 0.5


Fault = Slow | Fail | Die | ActThenDie | ActTwice | Redirect | Oversize | Garble | Drip


def rate_limited(reset_in_s: int) -> Fail:
    return Fail(429, 9, (("x-ratelimit-reset", str(int(time.time()) + reset_in_s)),))


@dataclass
class Faults:
    _rules: list[list[Any]] = field(default_factory=list)

    def on(self, method: str, path: str, fault: Fault, times: int | None = 1) -> None:
        """Apply to the next `times` calls (None: to all) whose path matches this shell pattern."""
        self._rules.append([method, path, fault, times])

    def clear(self) -> None:
        self._rules.clear()

    def take(self, method: str, path: str) -> Fault | None:
        for rule in self._rules:
            if rule[0] in ("*", method) and fnmatchcase(path, rule[1]):
                if rule[3] is not None:
                    rule[3] -= 1
                    if rule[3] <= 0:
                        self._rules.remove(rule)
                return rule[2]
        return None


@dataclass
class Channel:
    created_by: str
    data: dict[str, Any]
    members: dict[str, str] = field(default_factory=dict)
    messages: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    status: int | None
    """None when the connection was dropped."""


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def _bad(message: str) -> Refused:
    return Refused(400, 4, message)


def _no_channel() -> Refused:
    return Refused(404, 16, "Can't find channel")


@dataclass
class StreamServer:
    api_key: str = "key-of-the-test-service"
    secret: str = "a-secret-of-the-test-service-with-many-bytes"
    base_url: str = ""
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted_users: set[str] = field(default_factory=set)
    channels: dict[tuple[str, str], Channel] = field(default_factory=dict)
    types: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    task_polls: int = 1
    """How often a deletion must be asked after before it is completed."""
    deaf_to_types: bool = False
    """Whether changes of channel types are answered well and ignored."""
    latency_s: float = 0.0
    record: bool = True
    created: list[tuple[str, str]] = field(default_factory=list)
    """Every creation of a channel, so that one made twice would show."""
    _tasks: dict[str, int] = field(default_factory=dict)
    _task_numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def settings(self) -> ChatSettings:
        return ChatSettings(self.base_url, self.api_key, Secret(self.secret))

    # What tests ask.

    def members(self, channel_type: str, channel_id: str) -> dict[str, str] | None:
        """Who is in the channel with which role; None when there is no such channel."""
        channel = self.channels.get((channel_type, channel_id))
        return None if channel is None else dict(channel.members)

    def may_read(self, token: str, channel_type: str, channel_id: str) -> bool:
        return self.may(token, "read-channel", channel_type, channel_id)

    def may_write(self, token: str, channel_type: str, channel_id: str) -> bool:
        return self.may(token, "create-message", channel_type, channel_id)

    def may(self, token: str, grant: str, channel_type: str, channel_id: str) -> bool:
        """Whether the service would let the bearer of this user token do this in the channel."""
        try:
            user = self._bearer(token)
        except Refused:
            return False
        return user is not None and self._granted(user, grant, channel_type, channel_id)

    def calls_to(self, method: str, path: str) -> list[Call]:
        return [call for call in self.calls if call.method == method and fnmatchcase(call.path, path)]

    # Who asks.

    def _bearer(self, token: str) -> str | None:
        """The user of the token, None for the server itself."""
        try:
            claims = jwt.decode(token, self.secret, algorithms=["HS256"])
        except jwt.ExpiredSignatureError:
            raise Refused(401, 40, "token expired") from None
        except jwt.InvalidSignatureError:
            raise Refused(401, 43, "signature is not valid") from None
        except jwt.PyJWTError:
            raise Refused(401, 5, "token is not usable") from None
        if claims.get("server") is True:
            return None
        user_id = claims.get("user_id")
        if not isinstance(user_id, str) or user_id in self.deleted_users:
            raise Refused(401, 5, "no such user")
        revoked = self.users.get(user_id, {}).get("revoke_tokens_issued_before")
        if revoked is not None and claims.get("iat", 0) < datetime.fromisoformat(revoked).timestamp():
            raise Refused(401, 40, "token revoked")
        return user_id

    def _granted(self, user: str, grant: str, channel_type: str, channel_id: str) -> bool:
        channel = self.channels.get((channel_type, channel_id))
        grants = self.types.get(channel_type, {}).get("grants", {})
        roles = [self.users.get(user, {}).get("role", "user")]
        if channel is not None and user in channel.members:
            roles.append(channel.members[user])
        held = {held for role in roles for held in grants.get(role, ())}
        owned = channel is not None and channel.created_by == user
        return grant in held or (owned and f"{grant}-owner" in held)

    def _require(self, user: str | None, grant: str, channel_type: str, channel_id: str) -> None:
        if user is not None and not self._granted(user, grant, channel_type, channel_id):
            raise Refused(403, 17, f"not allowed: {grant}")

    # What is asked.

    def answer(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> Any:
        if query.get("api_key") != self.api_key:
            raise Refused(401, 2, "api_key not valid")
        if headers.get("stream-auth-type") != "jwt":
            raise Refused(401, 5, "stream-auth-type missing")
        user = self._bearer(headers.get("authorization", ""))
        match [method, *path.strip("/").split("/")]:
            case ["POST", "channels", kind, name, "query"]:
                return self._query_channel(user, kind, unquote(name), body)
            case ["POST", "channels", kind, name, "message"]:
                return self._send_message(user, kind, unquote(name), body)
            case ["POST", "channels", kind, name]:
                return self._update_channel(user, kind, unquote(name), body)
            case ["GET", "members"]:
                return self._list_members(user, json.loads(query.get("payload", "{}")))
        if user is not None:
            raise Refused(403, 17, "only for servers")
        match [method, *path.strip("/").split("/")]:
            case ["POST", "users"]:
                return self._upsert_users(body)
            case ["PATCH", "users"]:
                return self._patch_users(body)
            case ["POST", "users", "delete"]:
                return self._delete_users(body)
            case ["GET", "tasks", task_id]:
                return self._task(task_id)
            case ["PATCH", "channels", kind, name]:
                return self._patch_channel(kind, unquote(name), body)
            case ["DELETE", "channels", kind, name]:
                if self.channels.pop((kind, unquote(name)), None) is None:
                    raise _no_channel()
                return {}
            case ["GET", "channeltypes"]:
                return {"channel_types": self.types}
            case ["POST", "channeltypes"]:
                return self._make_type(body)
            case ["PUT", "channeltypes", name]:
                return self._change_type(name, body)
        raise Refused(404, 16, "no such endpoint")

    def _upsert_users(self, body: Any) -> Any:
        users = body["users"]
        _check_size(users)
        for key, profile in users.items():
            if key != profile["id"] or not USER_ID.fullmatch(key):
                raise _bad("user id")
            if key in self.deleted_users:
                raise Refused(404, 16, f"the user {key} was deleted")
        for key, profile in users.items():
            old = self.users.get(key, {})
            kept = {name: old[name] for name in ("role", "revoke_tokens_issued_before") if name in old}
            self.users[key] = {"role": "user", **kept, **profile}
        return {"users": {key: self.users[key] for key in users}}

    def _patch_users(self, body: Any) -> Any:
        _check_size(body["users"])
        for change in body["users"]:
            if change["id"] not in self.users:
                raise Refused(404, 16, "no such user")
        for change in body["users"]:
            profile = self.users[change["id"]]
            profile.update(change.get("set", {}))
            for name in change.get("unset", ()):
                profile.pop(name, None)
        return {"users": {change["id"]: self.users[change["id"]] for change in body["users"]}}

    def _delete_users(self, body: Any) -> Any:
        ids = body["user_ids"]
        _check_size(ids)
        if body.get("user") == "hard" and body.get("messages") != "hard":
            raise _bad("a hard deletion needs messages: hard")
        for user_id in ids:
            if user_id not in self.users:
                raise Refused(404, 16, f"the user {user_id} was deleted")
        for user_id in ids:
            del self.users[user_id]
            self.deleted_users.add(user_id)
            for channel in self.channels.values():
                channel.members.pop(user_id, None)
                channel.messages = [said for said in channel.messages if said[0] != user_id]
        task_id = f"task-{next(self._task_numbers)}"
        self._tasks[task_id] = self.task_polls
        return {"task_id": task_id}

    def _task(self, task_id: str) -> Any:
        if task_id not in self._tasks:
            raise Refused(404, 16, "no such task")
        self._tasks[task_id] -= 1
        return {"task_id": task_id, "status": "completed" if self._tasks[task_id] <= 0 else "running"}

    def _query_channel(self, user: str | None, kind: str, name: str, body: Any) -> Any:
        if kind not in self.types:
            raise Refused(404, 16, f"no channel type {kind}")
        if not CHANNEL_ID.fullmatch(name):
            raise _bad("channel id")
        channel = self.channels.get((kind, name))
        if channel is None:
            self._require(user, "create-channel", kind, name)
            data = dict(body.get("data", {}))
            creator = user or data.pop("created_by_id", None)
            if creator not in self.users:
                raise _bad("created_by_id is no user")
            members = self._placed(data.pop("members", []))
            channel = self.channels[kind, name] = Channel(creator, data, members)
            self.created.append((kind, name))
        else:
            self._require(user, "read-channel", kind, name)
        state = body.get("state", False)
        listed = [_member(*item) for item in list(channel.members.items())[:100]] if state else []
        return {"channel": {"type": kind, "id": name, **channel.data}, "members": listed, "messages": []}

    def _send_message(self, user: str | None, kind: str, name: str, body: Any) -> Any:
        self._require(user, "create-message", kind, name)
        channel = self._channel(kind, name)
        channel.messages.append((user or body["message"]["user_id"], body["message"]["text"]))
        return {"message": body["message"]}

    def _update_channel(self, user: str | None, kind: str, name: str, body: Any) -> Any:
        channel = self._channel(kind, name)
        adding = self._placed(body.get("add_members", []))
        removing, assigning = body.get("remove_members", []), body.get("assign_roles", [])
        _check_size(removing)
        _check_size(assigning)
        if user is not None:
            own = set(adding) | set(removing) <= {user} and not assigning and "data" not in body
            joining = "add-own-channel-membership" if adding else "remove-own-channel-membership"
            self._require(user, joining if own else "update-channel-members", kind, name)
        after = {**adding, **channel.members}
        for user_id in removing:
            after.pop(user_id, None)
        for placed in assigning:
            if placed["user_id"] not in after:
                raise _bad(f"{placed['user_id']} is no member")
            after[placed["user_id"]] = placed["channel_role"]
        channel.members = after
        if "data" in body:
            channel.data = dict(body["data"])
        return {"channel": {"type": kind, "id": name, **channel.data}, "members": []}

    def _placed(self, members: Any) -> dict[str, str]:
        _check_size(members)
        placed: dict[str, str] = {}
        for member in members:
            one = {"user_id": member} if isinstance(member, str) else member
            if one["user_id"] not in self.users:
                raise _bad(f"users involved that do not exist: {one['user_id']}")
            placed[one["user_id"]] = one.get("channel_role", "channel_member")
        if not set(placed.values()) <= {"channel_member", "channel_moderator"}:
            raise _bad("no such role")
        return placed

    def _patch_channel(self, kind: str, name: str, body: Any) -> Any:
        channel = self._channel(kind, name)
        channel.data.update(body.get("set", {}))
        for key in body.get("unset", ()):
            channel.data.pop(key, None)
        return {"channel": {"type": kind, "id": name, **channel.data}}

    def _list_members(self, user: str | None, ask: Any) -> Any:
        kind, name = ask["type"], ask["id"]
        self._require(user, "read-channel-members", kind, name)
        channel = self._channel(kind, name)
        limit, offset = ask.get("limit", 100), ask.get("offset", 0)
        if not 0 < limit <= 100 or not 0 <= offset <= MAX_OFFSET:
            raise _bad("limit or offset")
        found = list(channel.members.items())
        if ask.get("sort") == [{"field": "user_id", "direction": 1}]:
            found.sort()
        if (after := ask.get("user_id_gt")) is not None:
            found = [item for item in found if item[0] > after]
        return {"members": [_member(*item) for item in found[offset : offset + limit]]}

    def _make_type(self, body: Any) -> Any:
        name = body["name"]
        if not TYPE_NAME.fullmatch(name) or name in self.types:
            raise _bad("channel type name, or it exists")
        self.types[name] = {"grants": dict(DEFAULT_GRANTS)}
        return self._change_type(name, body)

    def _change_type(self, name: str, body: Any) -> Any:
        if name not in self.types:
            raise Refused(404, 16, "no such channel type")
        made = self.types[name]
        if self.deaf_to_types:
            return made
        for role, grants in body.get("grants", {}).items():
            made["grants"][role] = DEFAULT_GRANTS.get(role, []) if grants is None else sorted(set(grants))
        made.update({key: value for key, value in body.items() if key != "grants"})
        return made

    def _channel(self, kind: str, name: str) -> Channel:
        if (kind, name) not in self.channels:
            raise _no_channel()
        return self.channels[kind, name]


def _member(user_id: str, role: str) -> dict[str, Any]:
    return {"user_id": user_id, "user": {"id": user_id}, "channel_role": role}


def _check_size(items: Any) -> None:
    if len(items) > 100:
        raise _bad("at most 100")


# The wire.


async def _serve(server: StreamServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    conn = h11.Connection(h11.SERVER)
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        try:
            while await _one(server, conn, reader, writer):
                conn.start_next_cycle()
        finally:
            writer.close()


async def _one(
    server: StreamServer, conn: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Answer one request. False when the connection ends."""

    async def event() -> Any:
        while (found := conn.next_event()) is h11.NEED_DATA:
            conn.receive_data(await reader.read(65536))
        return found

    request = await event()
    if not isinstance(request, h11.Request):
        return False
    raw = bytearray()
    while isinstance(part := await event(), h11.Data):
        raw += part.data
    method, url = request.method.decode(), urlsplit(request.target.decode())
    headers = {name.decode(): value.decode() for name, value in request.headers}
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    body = json.loads(raw) if raw else {}

    fault = server.faults.take(method, url.path)
    await asyncio.sleep(fault.seconds if isinstance(fault, Slow) else server.latency_s)
    status, extra, kind = (
        0,
        [("x-ratelimit-limit", "300"), ("x-ratelimit-remaining", "299")],
        "application/json",
    )
    extra.append(("x-ratelimit-reset", str(int(time.time()) + 60)))
    started, answer = time.perf_counter(), None

    def act() -> tuple[int, Any]:
        try:
            done = server.answer(method, url.path, query, headers, body)
        except Refused as refused:
            error = {"code": refused.code, "message": refused.message, "StatusCode": refused.status}
            return refused.status, {**error, "more_info": "", "duration": "1ms"}
        except (KeyError, TypeError, AttributeError, ValueError):
            return 400, {
                "code": 4,
                "message": "bad body",
                "StatusCode": 400,
                "more_info": "",
                "duration": "1ms",
            }
        return (201 if method == "POST" else 200), {
            **done,
            "duration": f"{time.perf_counter() - started:.3f}s",
        }

    match fault:
        case Fail():
            status = fault.status
            answer = {"code": fault.code, "message": "as told", "StatusCode": status, "duration": "0ms"}
            given = dict(fault.headers)
            extra = [item for item in extra if item[0] not in given] + list(given.items())
        case Redirect():
            status, answer, extra = 307, {}, [("location", fault.location)]
        case Die():
            pass
        case ActTwice():
            act()
            status, answer = act()
        case _:
            status, answer = act()
    died = isinstance(fault, Die | ActThenDie)
    if server.record:
        server.calls.append(Call(method, url.path, query, body, None if died else status))
    if died:
        writer.transport.abort()
        return False
    content = json.dumps(answer).encode()
    if isinstance(fault, Oversize):
        content = content[:-1] + b',"padding":"' + b"x" * fault.size_bytes + b'"}'
    elif isinstance(fault, Garble):
        status, kind, content = fault.status, fault.content_type, fault.content
    head = [("content-type", kind), ("content-length", str(len(content))), *extra]
    events = [h11.Response(status_code=status, headers=head), h11.Data(data=content), h11.EndOfMessage()]
    sent = b"".join(conn.send(item) or b"" for item in events)
    step, pause_s = (1, fault.pause_s) if isinstance(fault, Drip) else (len(sent), 0.0)
    for at in range(0, len(sent), step):
        writer.write(sent[at : at + step])
        await writer.drain()
        await asyncio.sleep(pause_s)
    return conn.our_state is h11.DONE and conn.their_state is h11.DONE


@asynccontextmanager
async def stream_server(
    *, port: int = 0, make: Callable[[], StreamServer] = StreamServer
) -> AsyncIterator[StreamServer]:
    """A running service with no people, channels or types of its own."""
    server = make()
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await _serve(server, reader, writer)
        except asyncio.CancelledError:
            # The service is being stopped; the loop would report the cancellation as an error of ours.
            pass
        finally:
            connections.discard(task)

    listening = await asyncio.start_server(accept, "127.0.0.1", port)
    server.base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _main() -> None:
    async with stream_server(port=3033) as server:
        server.record = False
        print(f"{server.base_url} api_key={server.api_key} secret={server.secret}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
