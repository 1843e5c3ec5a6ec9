"""`POST /api/stream/token`."""

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.db import Read
from guildhall.errors import Unavailable
from guildhall.providers.chat import ChatRejected, ChatUnavailable, ChatUser
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.docs import facts
from guildhall.web.log import logger
from guildhall.web.wire import Wire

# Hosts of the vendor's cloud, in each of its regions. Its clients know the address by themselves.
CLOUD = "stream-io-api.com"
# How long somebody waits until the chat service knows them.
CHAT_S = 3.0


class ChatNotConfigured(Unavailable):
    code = "chat_not_configured"
    title = "This service has no chat. Its operator can configure one."


class ChatAway(Unavailable):
    code = "chat_unavailable"
    title = "The chat service does not answer just now. Try again shortly."


class ChatToken(Wire, frozen=True, kw_only=True):
    """What a chat client connects with. `baseUrl` is null for the vendor's cloud."""

    token: str
    user_id: str
    api_key: str
    expires_at: str
    base_url: str | None


class _Profile(msgspec.Struct, frozen=True):
    display_name: str
    avatar_url: str | None


@post(
    "/api/stream/token",
    status_code=200,
    summary="Get a token for the chat service",
    opt=facts(ChatNotConfigured, ChatAway),
)
async def create_chat_token(caller: NamedDependency[Caller]) -> ChatToken:
    """For oneself only, and for an hour at most. The chat service knows one's name and picture by then."""
    service = caller.service
    async with caller.db.reading() as read:
        profile = await _find_profile(read, caller)
        if profile is None:
            raise await explain_absence(read, caller)
    chat, api_key = service.chat, service.chat_api_key
    if chat is None or api_key is None:
        raise ChatNotConfigured
    async with caller.db.single() as tx:
        await service.limiter.take_exact(tx, ("chat token", caller.user))
    if not service.chat_pause.may_ask():
        raise ChatAway(retry_after_s=5)
    try:
        with service.chat_pause.asking(ChatUnavailable, TimeoutError):
            async with asyncio.timeout(CHAT_S):
                await chat.upsert_users([ChatUser(caller.user, profile.display_name, profile.avatar_url)])
        made = chat.user_token(caller.user, datetime.now(UTC))
    except ChatUnavailable as error:
        wait_s = 1 if error.retry_after_s is None else int(error.retry_after_s) + 1
        raise ChatAway(retry_after_s=wait_s) from error
    except TimeoutError as error:
        raise ChatAway(retry_after_s=5) from error
    except ChatRejected as error:
        logger().warning("chat.rejected", request_id=caller.request_id, status=error.status, code=error.code)
        raise ChatAway(retry_after_s=60) from error
    return ChatToken(
        token=made.token,
        user_id=caller.user,
        api_key=api_key,
        expires_at=made.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        base_url=_base_url(service.chat_url),
    )


async def _find_profile(read: Read, caller: Caller) -> _Profile | None:
    return await read.maybe(
        _Profile,
        "SELECT u.display_name, u.avatar_url FROM me($1, $2, $3) AS asking"
        " JOIN users u ON u.id = asking.user_id",
        *caller.me,
    )


def _base_url(url: str | None) -> str | None:
    host = urlsplit(url or "").hostname or ""
    return None if host == CLOUD or host.endswith("." + CLOUD) else url


ROUTES: list[HTTPRouteHandler] = [create_chat_token]
