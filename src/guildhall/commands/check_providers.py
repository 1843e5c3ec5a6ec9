"""What `guildhall check` asks the services the settings name. Nothing is sent, and nothing stays there."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import TypeAlias

from guildhall.commands.openers import (
    open_chat,
    open_files,
    open_issuer,
    open_mail,
    open_profiles,
    open_vectors,
)
from guildhall.errors import AppError
from guildhall.providers.chat import ChatSettings
from guildhall.providers.email import OutboxOnly, Resend, Smtp
from guildhall.providers.embeddings import EmbeddingsFailed, EmbeddingsSettings, LocalModel
from guildhall.providers.identity import Clerk
from guildhall.settings import Settings

# What there is to say, and whether it is well.
Lines: TypeAlias = AsyncGenerator[tuple[str, bool]]


def everything(settings: Settings) -> Iterator[tuple[str, Lines]]:
    yield "Identity", look_at_identity(settings.identity)
    yield "Mail", look_at_mail(settings)
    yield "Files", look_at_files(settings)
    yield "Chat", look_at_chat(settings.chat)
    yield "Embeddings", look_at_embeddings(settings.embeddings)


async def look_at_identity(clerk: Clerk | None) -> Lines:
    from guildhall.providers.identity import KeysUnavailable, ProfilesUnavailable

    if clerk is None:
        yield "embedded: people sign in by a code in a mail", True
        return
    issuer = open_issuer(clerk)
    try:
        await issuer.keys.find("check")
        kept = "a pinned key" if clerk.pinned_key else "the keys it publishes"
        yield f"{clerk.issuer}, by {kept}", True
    except KeysUnavailable:
        yield (
            f"{clerk.issuer} does not tell its keys. Correct GUILDHALL_CLERK_ISSUER or its JWKS_URL, or pin a"
            " key with GUILDHALL_CLERK_JWT_KEY.",
            False,
        )
    finally:
        await issuer.keys.aclose()
    if clerk.secret_key is None:
        yield (
            "Names and addresses are not known without GUILDHALL_CLERK_SECRET_KEY, so that no invite to an"
            " address can be accepted. Set it.",
            False,
        )
        return
    profiles = open_profiles(clerk)
    try:
        await profiles.fetch("user_nobody")
        yield f"profiles from {clerk.api_url}", True
    except ProfilesUnavailable as error:
        yield (
            f"{clerk.api_url} does not tell profiles ({error.reason}). Correct GUILDHALL_CLERK_SECRET_KEY.",
            False,
        )
    finally:
        await profiles.aclose()


async def look_at_mail(settings: Settings) -> Lines:
    from guildhall.providers.email import Rejected, Unavailable

    match settings.email:
        case OutboxOnly(folder=folder):
            well = f"stays in {folder}"
            to_do = f"Let the service write to {folder}."
            if not settings.data_dir.exists():
                yield well, True
                return
        case Resend(sender=sender):
            well = f"goes out by Resend, from {sender}"
            to_do = "Correct GUILDHALL_RESEND_API_KEY."
        case Smtp(host=host, port=port, sender=sender):
            well = f"goes out by {host}, port {port}, from {sender}"
            to_do = "Correct GUILDHALL_SMTP_HOST and its kin, or GUILDHALL_EMAIL_FROM."
    email = open_mail(settings)
    try:
        await email.check()
        yield well, True
    except (Rejected, Unavailable) as error:
        text = str(error)
        yield f"{text[:1].upper()}{text[1:]}. {to_do}", False
    finally:
        await email.aclose()


async def look_at_files(settings: Settings) -> Lines:
    url = settings.blobs.url
    if url == (settings.data_dir / "blobs").as_uri() and not settings.data_dir.exists():
        yield f"in {settings.data_dir / 'blobs'}, which the first start makes", True
        return
    to_do = "Correct GUILDHALL_BLOBS_URL and its kin."
    blobs = open_files(settings)
    name = f"check/{secrets.token_hex(16)}.txt"
    try:
        await blobs.put(name, _a_few_bytes(), "text/plain", 100)
        found = b"".join([chunk async for chunk in (await blobs.open(name)).chunks])
        await blobs.delete(name)
        if found == b"guildhall check\n":
            yield f"at {url}", True
        else:
            yield f"{url} does not give back what was put there. {to_do}", False
    except AppError:
        yield f"{url} does not let a file be written, read and removed. {to_do}", False
    finally:
        await blobs.aclose()


async def _a_few_bytes() -> AsyncIterator[bytes]:
    yield b"guildhall check\n"


async def look_at_chat(settings: ChatSettings | None) -> Lines:
    from guildhall.providers.chat import ChatRejected, ChatUnavailable

    if settings is None:
        yield "none is set", True
        return
    chat = open_chat(settings)
    try:
        # Types that are missing or differ are made or mended by the worker.
        await chat.channel_type_differences()
        yield f"at {settings.base_url}", True
    except ChatRejected as error:
        yield f"{error} Correct GUILDHALL_CHAT_KEY and GUILDHALL_CHAT_SECRET.", False
    except ChatUnavailable as error:
        yield f"{error} Start it, or correct GUILDHALL_CHAT_URL.", False
    finally:
        await chat.aclose()


async def look_at_embeddings(wanted: EmbeddingsSettings | None) -> Lines:
    if wanted is None:
        yield "none: memories are recalled by their words", True
        return
    embedder = open_vectors(wanted)
    try:
        await embedder.embed(["Is anybody there?"])
        where = str(wanted.folder) if isinstance(wanted, LocalModel) else wanted.url
        yield f"{embedder.name}, by {where}", True
    except EmbeddingsFailed as error:
        yield f"cannot be had: {error}. Correct GUILDHALL_EMBEDDINGS_URL and its kin.", False
    finally:
        await embedder.aclose()
