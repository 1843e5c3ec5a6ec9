"""Profiles from Clerk's backend API, by Clerk's own client library."""

import asyncio

import httpx
import msgspec
from clerk_backend_api import Clerk as ClerkClient
from clerk_backend_api.models import ClerkBaseError, ClerkErrors, NoResponseError, ResponseValidationError

from guildhall.providers.identity import SUBJECT, Clerk, Profile, ProfilesUnavailable
from guildhall.providers.identity.bounded import TOTAL_S, bounded_client, retry_after_s
from guildhall.providers.identity.clerk_users import ClerkUser, profile_of


class ClerkProfiles:
    def __init__(self, settings: Clerk) -> None:
        if settings.secret_key is None:
            raise ValueError("reading profiles from Clerk needs its secret key")
        self._http = bounded_client()
        # The library would follow redirects and repeat a failed call for an hour. The caller decides about
        # repeating, and None, unlike leaving it out, means never.
        self._clerk = ClerkClient(
            bearer_auth=settings.secret_key.reveal(),
            server_url=settings.api_url,
            async_client=self._http,
            retry_config=None,
        )

    async def fetch(self, user_id: str) -> Profile | None:
        if SUBJECT.fullmatch(user_id) is None:
            return None
        try:
            user = await self._ask(user_id)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ProfilesUnavailable("an answer of another shape") from None
        if user is not None and user.id != user_id:
            raise ProfilesUnavailable("an answer about somebody else")
        return profile_of(user) if user is not None else None

    async def _ask(self, user_id: str) -> ClerkUser | None:
        try:
            async with asyncio.timeout(TOTAL_S):
                user = await self._clerk.users.get_async(user_id=user_id)
        except ResponseValidationError as error:
            if error.status_code != 200:
                raise ProfilesUnavailable(f"unreadable, status {error.status_code}") from None
            # The library insists on every field of every record it knows, and fails whenever Clerk adds a
            # kind of verification. We need few of them, and read those ourselves.
            return msgspec.json.decode(error.body, type=ClerkUser)
        except ClerkBaseError as error:
            # A 404 in Clerk's own words; any other may come from a wrong address, and would erase everybody.
            if error.status_code == 404 and isinstance(error, ClerkErrors):
                return None
            # The library's message quotes the answer, which may describe a person.
            raise ProfilesUnavailable(
                f"{type(error).__name__}, status {error.status_code}", retry_after_s(error.headers)
            ) from None
        except TimeoutError:
            raise ProfilesUnavailable("no answer in time") from None
        except (httpx.HTTPError, NoResponseError) as error:
            raise ProfilesUnavailable(type(error).__name__) from None
        return msgspec.convert(user.model_dump(mode="json"), ClerkUser)

    async def aclose(self) -> None:
        await self._http.aclose()
