"""The chat client: people, their tokens, and channels made to match what our database says."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import jwt
import msgspec

from guildhall.providers.chat import channel_types, channels
from guildhall.providers.chat.values import (
    MAX_TOKEN_TTL_S,
    MIN_SECRET_BYTES,
    ChannelWanted,
    ChatRejected,
    ChatSettings,
    ChatUnavailable,
    ChatUser,
    UserToken,
    batches,
    channel_path,
    check_user_id,
)
from guildhall.providers.chat.wire import CODE_NOT_FOUND, Nothing, Wire

_BACKDATED_S = 5
_TASK_WAIT_S = 10.0
_TASK_FIRST_PAUSE_S = 0.1


class _TaskStarted(msgspec.Struct, frozen=True):
    task_id: str


class _TaskState(msgspec.Struct, frozen=True):
    status: str


class Chat:
    """The chat service. Every verb converges: repeated, or broken off and repeated, it ends the same.

    All raise ChatRejected (give up) or ChatUnavailable (try later), and nothing else for the service's part.
    """

    def __init__(self, settings: ChatSettings, wire: Wire) -> None:
        self._secret = settings.secret
        self._wire = wire

    async def aclose(self) -> None:
        await self._wire.aclose()

    def user_token(self, user_id: str, now: datetime, ttl_s: int = MAX_TOKEN_TTL_S) -> UserToken:
        """A token for this person alone, good for `ttl_s` seconds from `now`, an hour at most.

        `iat` lies 5 s back because the service gives clocks no leeway. Made without asking the service.
        """
        if not 0 < ttl_s <= MAX_TOKEN_TTL_S:
            raise ValueError(f"A chat token lives for 1 to {MAX_TOKEN_TTL_S} seconds.")
        issued = _unix_s(now)
        claims = {"user_id": check_user_id(user_id), "iat": issued - _BACKDATED_S, "exp": issued + ttl_s}
        return UserToken(
            token=jwt.encode(claims, self._secret.reveal(), algorithm="HS256"),
            expires_at=datetime.fromtimestamp(issued + ttl_s, UTC),
        )

    async def upsert_users(self, users: Sequence[ChatUser]) -> None:
        """Make each person known, or their profile there the same as here. A deleted id cannot come back."""
        profiles = {check_user_id(user.id): _profile(user) for user in users}
        for batch in batches(profiles.values()):
            body = {"users": {profile["id"]: profile for profile in batch}}
            await self._wire.call("POST", "/users", Nothing, body=body, what="upserting users")

    async def revoke_tokens(self, user_id: str, before: datetime) -> None:
        """Make tokens issued before this time useless, and those of the next 5 s, as they are back-dated.

        A person the service does not know holds none that work.
        """
        since = datetime.fromtimestamp(_unix_s(before), UTC).isoformat().replace("+00:00", "Z")
        change = {"id": check_user_id(user_id), "set": {"revoke_tokens_issued_before": since}}
        try:
            await self._wire.call(
                "PATCH", "/users", Nothing, body={"users": [change]}, what="revoking tokens"
            )
        except ChatRejected as error:
            if error.code != CODE_NOT_FOUND:
                raise

    async def delete_user(self, user_id: str) -> None:
        """Remove the person and all they wrote, for good. Returns when it is done, or is so already.

        The service does it in its own time; after 10 s of waiting this raises ChatUnavailable, and asking
        again later finds out.
        """
        # The service refuses to erase a person while their messages or conversations are to stay.
        body = {
            "user_ids": [check_user_id(user_id)],
            "user": "hard",
            "messages": "hard",
            "conversations": "hard",
        }
        try:
            started = await self._wire.call(
                "POST", "/users/delete", _TaskStarted, body=body, what="deleting a user"
            )
        except ChatRejected as error:
            if error.code == CODE_NOT_FOUND:
                return
            raise
        await self._finish_task(started.task_id)

    async def ensure_channel_types(self) -> None:
        """Make our two closed types, or mend them, and look again: ChatRejected if they still differ."""
        found = await self._channel_types()
        for name in channel_types.GRANTS:
            await self._ensure_channel_type(name, found)
        if left := channel_types.differences(await self._channel_types()):
            raise ChatRejected(f"our channel types do not come out as asked; {left[0]}")

    async def channel_type_differences(self) -> list[str]:
        """One sentence per difference between our types and the service's. Changes nothing."""
        return channel_types.differences(await self._channel_types())

    async def converge_channel(self, wanted: ChannelWanted) -> None:
        """Make the channel exist with exactly these members and roles, this name and this image.

        People who should not be there go first, page by page as they are found; then ranks change; then
        people come in. People the service does not know are left out and named in the ChatRejected that
        ends the otherwise finished work. Members are read and written 100 at a time, and one set of ids
        is all that is kept beside `wanted`.
        """
        await channels.converge(self._wire, wanted)

    async def open_channel(self, wanted: ChannelWanted) -> None:
        """Make the channel exist with this name and image. Who is in it stays as it is."""
        await channels.open_channel(self._wire, wanted)

    async def place_members(
        self, channel_type: str, channel_id: str, roles: Mapping[str, str | None]
    ) -> None:
        """Give these people these roles in the channel, or with None take them out; leave all others alone.

        Costs at most three calls per 100 people however large the channel is, where converging reads it all.
        The channel must exist: ChatRejected with code 16 says it does not, and then it wants converging.
        """
        await channels.place(self._wire, channel_path(channel_type, channel_id), roles)

    async def delete_channel(self, channel_type: str, channel_id: str) -> None:
        """Remove the channel and its messages for good. Succeeds when there is none."""
        path = channel_path(channel_type, channel_id)
        try:
            await self._wire.call(
                "DELETE", path, Nothing, query={"hard_delete": "true"}, what="deleting a channel"
            )
        except ChatRejected as error:
            if error.code != CODE_NOT_FOUND:
                raise

    async def list_member_ids(self, channel_type: str, channel_id: str) -> list[str]:
        """Everyone in the channel. Empty when there is no such channel."""
        channel_path(channel_type, channel_id)
        pages = channels.member_pages(self._wire, channel_type, channel_id)
        try:
            return [m.user_id async for page in pages for m in page]
        except ChatRejected as error:
            if error.code == CODE_NOT_FOUND:
                return []
            raise

    async def _channel_types(self) -> channel_types.ChannelTypes:
        return await self._wire.call(
            "GET", "/channeltypes", channel_types.ChannelTypes, what="listing channel types"
        )

    async def _ensure_channel_type(
        self, name: channel_types.ChannelType, found: channel_types.ChannelTypes
    ) -> None:
        existing = found.channel_types.get(name)
        if existing is None:
            body = {"name": name, **channel_types.definition(name, None)}
            try:
                await self._wire.call(
                    "POST", "/channeltypes", Nothing, body=body, what="creating a channel type"
                )
            except ChatRejected:
                # Another process may have made it between our look and our attempt.
                existing = (await self._channel_types()).channel_types.get(name)
                if existing is None:
                    raise
        if existing is not None and any(channel_types.type_differences(name, existing)):
            body = channel_types.definition(name, existing)
            await self._wire.call(
                "PUT", f"/channeltypes/{name}", Nothing, body=body, what="changing a channel type"
            )

    async def _finish_task(self, task_id: str) -> None:
        path = f"/tasks/{quote(task_id, safe='')}"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TASK_WAIT_S
        pause = _TASK_FIRST_PAUSE_S
        while True:
            state = await self._wire.call("GET", path, _TaskState, what="following a deletion")
            if state.status == "completed":
                return
            if state.status == "failed":
                raise ChatUnavailable("the deletion failed there")
            if loop.time() + pause > deadline:
                raise ChatUnavailable("the deletion is still going on there", 30.0)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)


def open_chat(settings: ChatSettings) -> Chat:
    """A client over one set of connections; close it with `aclose()`.

    Raises ValueError when the settings cannot work. The service is not asked yet.
    """
    if len(settings.secret.reveal().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"The chat secret must have at least {MIN_SECRET_BYTES} bytes.")
    if not settings.api_key:
        raise ValueError("The chat service needs an API key.")
    try:
        url = httpx.URL(settings.base_url)
    except httpx.InvalidURL:
        raise ValueError("The chat base URL is no URL.") from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(
            "The chat base URL must be http or https with a host, and no user, query or fragment."
        )
    return Chat(settings, Wire(settings))


def _profile(user: ChatUser) -> dict[str, str]:
    # The role is spelled out so that a profile made anywhere else cannot keep a stronger one.
    profile = {"id": user.id, "name": user.name, "role": "user"}
    return profile if user.image is None else {**profile, "image": user.image}


def _unix_s(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("A time without a zone cannot be compared with the service's.")
    return int(at.timestamp())
