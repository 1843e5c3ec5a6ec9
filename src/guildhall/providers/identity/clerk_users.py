"""A user as Clerk writes one, in its API and in its webhooks, read into our Profile."""

import msgspec

from guildhall.providers.identity import Profile


class _Verification(msgspec.Struct):
    status: str | None = None


class _Email(msgspec.Struct):
    email_address: str
    id: str | None = None
    verification: _Verification | None = None


class _Phone(msgspec.Struct):
    phone_number: str
    id: str | None = None


class ClerkUser(msgspec.Struct):
    """The fields we read; Clerk sends many more, and adds to them at will."""

    id: str
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    image_url: str | None = None
    primary_email_address_id: str | None = None
    primary_phone_number_id: str | None = None
    email_addresses: list[_Email] = []
    phone_numbers: list[_Phone] = []
    updated_at: int | None = None


def profile_of(user: ClerkUser) -> Profile:
    email = next((one for one in user.email_addresses if _is(one.id, user.primary_email_address_id)), None)
    phone = next((one for one in user.phone_numbers if _is(one.id, user.primary_phone_number_id)), None)
    # Being verified is a property of that one address; another verified address says nothing about it.
    verification = email.verification if email is not None else None
    full_name = " ".join(part for part in (user.first_name, user.last_name) if part)
    return Profile(
        id=user.id,
        display_name=full_name.strip() or user.username or None,
        avatar_url=user.image_url or None,
        email=email.email_address if email is not None else None,
        email_verified=verification is not None and verification.status == "verified",
        phone_number=phone.phone_number if phone is not None else None,
        record_at=user.updated_at,
    )


def _is(record_id: str | None, primary_id: str | None) -> bool:
    return primary_id is not None and record_id == primary_id
