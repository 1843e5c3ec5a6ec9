"""Deliveries from Clerk: believed only when signed, recent, and whole."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from svix.webhooks import Webhook, WebhookVerificationError

from guildhall.providers.identity import SUBJECT, BadWebhook, Profile
from guildhall.providers.identity.clerk_users import ClerkUser, profile_of
from guildhall.secret import Secret

# The signature covers id, time and body joined by dots. An id with a dot in it could claim a part of the
# body for itself, so that one signed delivery could be told as another.
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MAX_SIGNATURE_CHARS = 2048


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`delivery_id` is the same each time a delivery is repeated; take each once.

    `user_id` is set for user.updated and user.deleted, `profile` for user.updated; other types carry neither.
    """

    delivery_id: str
    type: str
    user_id: str | None
    profile: Profile | None


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw


class _Deleted(msgspec.Struct):
    id: str


def read_webhook(headers: Mapping[str, str], raw_body: bytes, secrets: Sequence[Secret[str]]) -> WebhookEvent:
    """Checks the MAC over the raw body under each secret and reads the event. Raises BadWebhook.

    `secrets` holds both the old and the new one while they are being exchanged.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    delivery_id = lowered.get("svix-id", "")
    timestamp = lowered.get("svix-timestamp", "")
    signature = lowered.get("svix-signature", "")
    if _DELIVERY_ID.fullmatch(delivery_id) is None or _TIMESTAMP.fullmatch(timestamp) is None:
        raise BadWebhook("delivery id or time missing or malformed")
    if not 0 < len(signature) <= _MAX_SIGNATURE_CHARS:
        raise BadWebhook("signature missing or malformed")
    signed = {"svix-id": delivery_id, "svix-timestamp": timestamp, "svix-signature": signature}
    if not any(_is_signed(secret, raw_body, signed) for secret in secrets):
        raise BadWebhook("not signed by a known secret, or too old")
    return _read_event(delivery_id, raw_body)


def _is_signed(secret: Secret[str], raw_body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret.reveal()).verify(raw_body, headers)
    except (WebhookVerificationError, ValueError):
        # ValueError: the library does not guard itself against malformed signatures and text.
        return False
    return True


def _read_event(delivery_id: str, raw_body: bytes) -> WebhookEvent:
    user_id: str | None = None
    profile: Profile | None = None
    try:
        envelope = msgspec.json.decode(raw_body, type=_Envelope)
        data: Any = envelope.data
        if envelope.type == "user.updated":
            profile = profile_of(msgspec.json.decode(data, type=ClerkUser))
            user_id = profile.id
        elif envelope.type == "user.deleted":
            user_id = msgspec.json.decode(data, type=_Deleted).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadWebhook("a body of another shape") from None
    if user_id is not None and SUBJECT.fullmatch(user_id) is None:
        raise BadWebhook("user id malformed")
    return WebhookEvent(delivery_id=delivery_id, type=envelope.type, user_id=user_id, profile=profile)
