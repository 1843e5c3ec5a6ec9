"""What the whole service shares and a request may need: built once by the wiring, read-only after."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from guildhall.db import Write
from guildhall.errors import AppError
from guildhall.events.streams import Streams
from guildhall.keys import Keys
from guildhall.providers.blobs import Blobs
from guildhall.providers.chat import Chat
from guildhall.providers.embeddings import Embedder
from guildhall.providers.identity import Clerk, Profiles
from guildhall.providers.identity.sessions import SessionIssuer
from guildhall.providers.pause import Pause
from guildhall.tokens import Tokens
from guildhall.web.limits import Limiter
from guildhall.web.tally import Tally
from guildhall.web.traffic import Traffic

# Makes of a refusal what a browser shows: status, headers, body. Takes the path, the request id, and whether
# whoever asks is signed in.
ErrorPage: TypeAlias = (
    "Callable[[Service, AppError, str, str, bool], tuple[int, list[tuple[bytes, bytes]], bytes]]"
)


# Does what somebody answered about a proposal of a dream: the hub, the proposal, and the answer; says as what
# that is resolved. Who asks is a Caller, which is made of more than there is here.
Decide: TypeAlias = Callable[[Write, Any, UUID, UUID, str], Awaitable[str]]


class Quotas(msgspec.Struct, frozen=True):
    """How often one person may do what is counted in a calendar month; None is as often as they like."""

    pushes: int | None = None
    recalls: int | None = None
    asks: int | None = None


class Service(msgspec.Struct, frozen=True):
    """`name` and `about` are what the operator says of it on pages. `public_url` has no trailing slash.
    `is_blob_url` says whether a URL field may hold an address; `content_hosts` are those beside our own where
    such addresses lead.

    `embedder` is None where memories are recalled by words alone.

    The pauses are of providers that requests wait for: one that hangs is left alone for a while.

    One of `issuer` (the embedded one) and `clerk` says who signs people in; `chat` is None where no chat
    service is configured. `outbox` is the folder where mail stays, where it stays here. `most_owned_hubs`,
    `most_hub_members` and `most_hub_memories` are None where there is no such limit.
    """

    limiter: Limiter
    name: str
    about: str | None
    public_url: str
    keys: Keys
    invite_tokens: Tokens
    is_blob_url: Callable[[str], bool]
    content_hosts: frozenset[str]
    blobs: Blobs
    issuer: SessionIssuer | None
    clerk: Clerk | None
    profiles: Profiles | None
    profiles_pause: Pause
    chat: Chat | None
    chat_pause: Pause
    streams: Streams
    chat_api_key: str | None
    chat_url: str | None
    operators: frozenset[str]
    backlog_open: bool
    development: bool
    docs: bool
    metrics: bool
    traffic: Traffic
    outbox: Path | None
    error_page: ErrorPage
    most_owned_hubs: int | None
    most_hub_members: int | None
    quotas: Quotas
    tally: Tally
    most_hub_memories: int | None
    embedder: Embedder | None
    embedder_pause: Pause
    decide: Decide
