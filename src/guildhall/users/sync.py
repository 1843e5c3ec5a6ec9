"""Making and keeping accounts as the identity provider has them."""

import asyncio

import msgspec

from guildhall.db import Write
from guildhall.errors import Unauthorized, Unavailable
from guildhall.providers.identity import Profile, ProfilesUnavailable
from guildhall.users.accounts import Own, create_user, find_me, find_own, follow, new_user
from guildhall.web.caller import Caller, explain_absence
from guildhall.web.log import logger
from guildhall.web.service import Service

# Shorter than a request may take, so that somebody known is served although the provider hangs.
PROFILE_S = 5.0


class Missing(msgspec.Struct, frozen=True):
    """The provider could not be asked. `retry_after_s` is what it wishes."""

    retry_after_s: int | None


async def fetch_profile(service: Service, user_id: str) -> Profile | Missing | None:
    """What the provider knows of a person; None where this service has no way to ask at all.

    Raises Unauthorized for somebody the provider does not know any more.
    """
    if service.profiles is None:
        return None
    if not service.profiles_pause.may_ask():
        return Missing(None)
    try:
        with service.profiles_pause.asking(ProfilesUnavailable, TimeoutError):
            async with asyncio.timeout(PROFILE_S):
                profile = await service.profiles.fetch(user_id)
    except ProfilesUnavailable as error:
        logger().warning("profiles unavailable", reason=error.reason)
        return Missing(error.retry_after_s)
    except TimeoutError:
        logger().warning("profiles unavailable", reason="no answer in time")
        return Missing(None)
    if profile is None:
        raise Unauthorized
    return profile


async def sync(tx: Write, caller: Caller, profile: Profile | Missing | None) -> tuple[Own, bool]:
    """The caller's account as the provider has it now; True when it was made.

    Raises Unauthorized for somebody disabled, erased, signed out, or known by that id from another issuer;
    Unavailable for somebody unknown whom the provider could not be asked about.
    """
    if isinstance(profile, Missing):
        own = await find_me(tx, caller)
        if own is None:
            if await tx.value("SELECT EXISTS (SELECT FROM users WHERE id = $1)", caller.user):
                raise Unauthorized
            raise Unavailable(
                "Your identity provider does not answer just now, and you are new here. Try again shortly.",
                retry_after_s=profile.retry_after_s or 5,
            )
        return own, False
    # Sessions of the embedded issuer belong to accounts that signing in made.
    if caller.session is None and await create_user(tx, new_user(caller.issuer, caller.user, profile)):
        own = await find_own(tx, caller.user)
        assert own is not None
        return own, True
    if profile is not None:
        await follow(tx, caller.issuer, profile)
    own = await find_me(tx, caller)
    if own is None:
        raise await explain_absence(tx, caller)
    return own, False
