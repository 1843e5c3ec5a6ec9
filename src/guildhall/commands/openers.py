"""Opening the providers that the settings name, with words for what is wrong with them. No network."""

import asyncio
from typing import TYPE_CHECKING

from guildhall.commands import Problem, own_name
from guildhall.providers.chat import ChatSettings
from guildhall.providers.embeddings import EmbeddingsSettings
from guildhall.providers.identity import Clerk
from guildhall.settings import Settings

if TYPE_CHECKING:
    from guildhall.providers.blobs import Blobs
    from guildhall.providers.chat import Chat
    from guildhall.providers.email import Email
    from guildhall.providers.embeddings import Embedder
    from guildhall.providers.identity import Issuer, Profiles


def open_issuer(clerk: Clerk) -> "Issuer":
    """Raises Problem."""
    from guildhall.providers.identity import clerk_issuer

    try:
        return clerk_issuer(clerk)
    except ValueError as error:
        name = "CLERK_JWT_KEY" if clerk.pinned_key is not None else "CLERK_JWKS_URL or CLERK_ISSUER"
        raise Problem(f"GUILDHALL_{name} cannot be used: {error}.") from None


def open_profiles(clerk: Clerk) -> "Profiles":
    """Raises Problem."""
    from guildhall.providers.identity import open_clerk_profiles

    try:
        return open_clerk_profiles(clerk)
    except ImportError:
        raise Problem("The library for Clerk is not installed. Install guildhall[clerk].") from None


def open_mail(settings: Settings) -> "Email":
    """Raises Problem."""
    from guildhall.providers.email import open_email

    try:
        return open_email(settings.email)
    except ImportError:
        raise Problem("The library for Resend is not installed. Install guildhall[resend].") from None
    except ValueError as error:
        raise Problem(f"GUILDHALL_EMAIL_FROM cannot be used: {error}.") from None


def open_files(settings: Settings) -> "Blobs":
    """Raises Problem."""
    from guildhall.providers.blobs import open_blobs

    try:
        return open_blobs(settings.blobs)
    except (ValueError, OSError) as error:
        raise Problem(f"GUILDHALL_BLOBS_URL or its kin cannot be used: {error}.") from None


def open_chat(settings: ChatSettings) -> "Chat":
    """Raises Problem."""
    from guildhall.providers.chat import open_chat

    try:
        return open_chat(settings)
    except ValueError as error:
        raise Problem(f"GUILDHALL_CHAT_URL or its kin cannot be used: {str(error).rstrip('.')}.") from None


def open_vectors(settings: EmbeddingsSettings) -> "Embedder":
    """Raises Problem."""
    from guildhall.providers.embeddings import open_embedder

    try:
        return open_embedder(settings)
    except ImportError:
        raise Problem(
            "The libraries for recall by meaning are not installed. Install guildhall[embeddings]."
        ) from None
    except FileNotFoundError as error:
        raise Problem(
            f"There is no model for recall by meaning: {error} is missing."
            f" Run: {own_name()} embeddings install"
        ) from None


def try_to_open(settings: Settings) -> None:
    """Open everything and close it again. Raises Problem naming all that cannot be opened."""
    problems = asyncio.run(_find_unusable(settings))
    if problems:
        raise Problem("\n  - ".join(["The settings cannot be used:", *problems]))


async def _find_unusable(settings: Settings) -> list[str]:
    problems: list[str] = []
    for opening in (_try_identity, _try_mail, _try_files, _try_chat, _try_vectors):
        try:
            await opening(settings)
        except Problem as problem:
            problems.append(str(problem))
    return problems


async def _try_identity(settings: Settings) -> None:
    if settings.identity is not None:
        await open_issuer(settings.identity).keys.aclose()
        if settings.identity.secret_key is not None:
            await open_profiles(settings.identity).aclose()


async def _try_mail(settings: Settings) -> None:
    await open_mail(settings).aclose()


async def _try_files(settings: Settings) -> None:
    await open_files(settings).aclose()


async def _try_chat(settings: Settings) -> None:
    if settings.chat is not None:
        await open_chat(settings.chat).aclose()


async def _try_vectors(settings: Settings) -> None:
    if settings.embeddings is not None:
        await open_vectors(settings.embeddings).aclose()
