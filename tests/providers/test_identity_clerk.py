"""Profiles and webhooks from Clerk, through its own client libraries, over a real socket."""

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from guildhall.providers.identity import (
    BadWebhook,
    Profile,
    Profiles,
    ProfilesUnavailable,
    clerk_issuer,
    open_clerk_profiles,
)
from guildhall.providers.identity.verify import Verifier
from guildhall.providers.identity.webhooks import WebhookEvent, read_webhook
from guildhall.secret import Secret
from tests.servers.clerk_server import (
    ClerkServer,
    Fault,
    clerk_email,
    clerk_server,
    clerk_user,
    webhook_secret,
)

ADA = Profile(
    id="user_ada",
    display_name="Ada Lovelace",
    avatar_url="https://img.clerk.test/user_ada",
    email="ada@example.test",
    email_verified=True,
    phone_number="+49 30 1234",
    record_at=1_700_000_000_000,
)
ABOUT_ADA: dict[str, Any] = {
    "email": "ada@example.test",
    "phone_number": "+49 30 1234",
    "first_name": "Ada",
    "last_name": "Lovelace",
}


async def _fetch(profiles: Profiles, user_id: str = "user_ada") -> Profile | None:
    try:
        return await profiles.fetch(user_id)
    finally:
        await profiles.aclose()


async def test_a_profile_is_read_from_the_primary_records() -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", **ABOUT_ADA)

        assert await _fetch(open_clerk_profiles(clerk.settings())) == ADA
        assert clerk.user_fetches == 1


async def test_an_address_is_verified_only_by_its_own_record() -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", email="ada@example.test", verified=False)
        profiles = open_clerk_profiles(clerk.settings())
        found = await profiles.fetch("user_ada")
        assert found is not None
        assert (found.email, found.email_verified) == ("ada@example.test", False)

        user = clerk.put_user("user_ada")
        found = await profiles.fetch("user_ada")
        assert found is not None
        assert (found.email, found.email_verified, found.phone_number) == (None, False, None)

        user["primary_email_address_id"] = "idn_gone"
        found = await profiles.fetch("user_ada")
        assert found is not None
        assert (found.email, found.email_verified) == (None, False)

        record = clerk_email("idn_primary", "ada@example.test", verified=True)
        user.update(
            primary_email_address_id="idn_primary", email_addresses=[{**record, "verification": None}]
        )
        found = await _fetch(profiles)
        assert found is not None
        assert (found.email, found.email_verified) == ("ada@example.test", False)


async def test_what_clerk_adds_to_its_records_does_not_hide_a_person() -> None:
    async with clerk_server() as clerk:
        profiles = open_clerk_profiles(clerk.settings())
        by_google = {"strategy": "from_oauth_google", "attempts": None, "expire_at": None}
        for verification, verified in (
            ({**by_google, "object": "verification_from_oauth", "status": "verified"}, True),
            ({**by_google, "status": "verified"}, True),
            ({"object": "verification_by_owl", "status": "verified", "strategy": "owl"}, True),
            ({"object": "verification_by_owl", "status": "on its way", "strategy": "owl"}, False),
            ({"status": None}, False),
            ({}, False),
        ):
            user = clerk.put_user("user_ada", email="ada@example.test", surprise={"new": [1]})
            user["email_addresses"][-1]["verification"] = verification
            found = await profiles.fetch("user_ada")
            assert found is not None
            assert (found.email, found.email_verified) == ("ada@example.test", verified), verification
        user = clerk.put_user("user_ada", email="ada@example.test")
        del user["mfa_enabled_at"]
        assert await profiles.fetch("user_ada")
        await profiles.aclose()


async def test_a_name_is_what_the_person_has() -> None:
    async with clerk_server() as clerk:
        profiles = open_clerk_profiles(clerk.settings())
        for fields, name in (
            ({"first_name": "Ada"}, "Ada"),
            ({"last_name": "Lovelace", "username": "ada"}, "Lovelace"),
            ({"username": "ada"}, "ada"),
            ({"first_name": "", "last_name": " "}, None),
            ({}, None),
        ):
            clerk.put_user("user_ada", **fields)
            found = await profiles.fetch("user_ada")
            assert found is not None
            assert found.display_name == name
        await profiles.aclose()


async def test_nobody_by_that_id_is_none_and_a_malformed_id_is_not_asked_about() -> None:
    async with clerk_server() as clerk:
        profiles = open_clerk_profiles(clerk.settings())
        assert await profiles.fetch("user_nobody") is None
        assert clerk.user_fetches == 1
        for malformed in ("", "../users", "user_ada/../../x", "user ada", "u" * 65, "user_ada?x=1"):
            assert await profiles.fetch(malformed) is None
        assert clerk.user_fetches == 1
        await profiles.aclose()


@pytest.mark.parametrize(
    "fault", ["hang_up", "error", "busy", "lie", "lost", "shape", "redirect", "too_large", "compressed"]
)
async def test_a_broken_answer_is_unavailable_at_once_and_asked_once(fault: Fault) -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", **ABOUT_ADA)
        clerk.user_fault = fault
        started = time.perf_counter()

        with pytest.raises(ProfilesUnavailable) as unavailable:
            await _fetch(open_clerk_profiles(clerk.settings()))

        assert time.perf_counter() - started < 3
        assert clerk.user_fetches == 1
        assert unavailable.value.retry_after_s == (77 if fault == "busy" else None)
        assert "user_ada" not in unavailable.value.reason


async def test_an_answer_about_somebody_else_is_not_believed() -> None:
    async with clerk_server() as clerk:
        clerk.users["user_ada"] = clerk_user("user_eve")
        with pytest.raises(ProfilesUnavailable):
            await _fetch(open_clerk_profiles(clerk.settings()))


async def test_a_wrong_secret_key_is_unavailable_and_not_shown() -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", **ABOUT_ADA)
        profiles = open_clerk_profiles(clerk.settings(secret_key=Secret("sk_test_wrong")))
        with pytest.raises(ProfilesUnavailable) as unavailable:
            await _fetch(profiles)
        assert "sk_test_wrong" not in repr(unavailable.value)


async def test_a_slow_answer_is_given_up_after_ten_seconds() -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", **ABOUT_ADA)
        clerk.user_delay_s = 30
        started = time.perf_counter()
        with pytest.raises(ProfilesUnavailable):
            await _fetch(open_clerk_profiles(clerk.settings()))
        assert 9 < time.perf_counter() - started < 12


async def test_a_closed_port_is_unavailable() -> None:
    async with clerk_server() as clerk:
        settings = clerk.settings()
    with pytest.raises(ProfilesUnavailable):
        await _fetch(open_clerk_profiles(settings))


async def test_many_profiles_at_once() -> None:
    async with clerk_server() as clerk:
        for number in range(50):
            clerk.put_user(f"user_{number}", username=f"name{number}")
        profiles = open_clerk_profiles(clerk.settings())
        found = await asyncio.gather(*(profiles.fetch(f"user_{number}") for number in range(50)))
        await profiles.aclose()
        assert [one.display_name for one in found if one] == [f"name{number}" for number in range(50)]


async def test_settings_refuse_what_could_not_be_safe() -> None:
    async with clerk_server() as clerk:
        with pytest.raises(ValueError, match="secret key"):
            open_clerk_profiles(clerk.settings(secret_key=None))
        with pytest.raises(ValueError, match="https"):
            clerk.settings(api_url="http://api.example.test/v1")
        with pytest.raises(ValueError, match="https"):
            clerk_issuer(clerk.settings(jwks_url="http://issuer.example.test/jwks.json"))
        for secret in ("", "whsec_", "whsec_short", "whsec_????", "c2VjcmV0c2VjcmV0c2VjcmV0"):
            with pytest.raises(ValueError, match="whsec_"):
                clerk.settings(webhook_secrets=(Secret(secret),))
        shown = repr(clerk.settings())
        assert clerk.secret_key not in shown
        assert clerk.webhook_secret not in shown


def test_a_profile_is_not_shown_in_logs() -> None:
    assert "example.test" not in repr(ADA)
    assert "1234" not in repr(ADA)


def test_tokens_are_verified_without_the_client_libraries() -> None:
    program = (
        "import sys, guildhall.providers.identity.verify, guildhall.providers.identity.sessions;"
        "sys.exit(any(name.split('.')[0] in ('clerk_backend_api', 'svix') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_a_session_at_clerk_leads_to_its_profile() -> None:
    async with clerk_server() as clerk:
        clerk.put_user("user_ada", **ABOUT_ADA)
        verifier = Verifier([clerk_issuer(clerk.settings())])
        identity = await verifier.verify(clerk.token("user_ada"), from_cookie=True)
        assert await _fetch(open_clerk_profiles(clerk.settings()), identity.subject) == ADA
        await verifier.aclose()


def _read(clerk: ClerkServer, delivery: tuple[dict[str, str], bytes], *extra: str) -> WebhookEvent:
    headers, body = delivery
    return read_webhook(headers, body, [*clerk.settings().webhook_secrets, *map(Secret, extra)])


def test_a_signed_delivery_tells_what_happened() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    updated = _read(clerk, clerk.webhook("user.updated", clerk_user("user_ada", **ABOUT_ADA)))
    assert updated == WebhookEvent(
        delivery_id="msg_2xQ9a", type="user.updated", user_id="user_ada", profile=ADA
    )

    deleted = _read(clerk, clerk.webhook("user.deleted", {"id": "user_ada", "deleted": True}))
    assert (deleted.type, deleted.user_id, deleted.profile) == ("user.deleted", "user_ada", None)

    other = _read(clerk, clerk.webhook("session.created", {"id": "sess_1", "user_id": "user_ada"}))
    assert (other.type, other.user_id, other.profile) == ("session.created", None, None)


def test_header_names_are_read_in_any_case() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    headers, body = clerk.webhook("user.deleted", {"id": "user_ada"})
    assert (
        _read(clerk, ({name.upper(): value for name, value in headers.items()}, body)).user_id == "user_ada"
    )


def test_both_secrets_count_while_one_replaces_the_other() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    fresh = webhook_secret()
    for secret in (clerk.webhook_secret, fresh):
        delivery = clerk.webhook("user.deleted", {"id": "user_ada"}, secret=secret)
        assert _read(clerk, delivery, fresh).user_id == "user_ada"
    # The sender, too, signs with both for a while, and may add kinds of signature unknown to us.
    headers, body = clerk.webhook("user.deleted", {"id": "user_ada"})
    foreign, _ = clerk.webhook("user.deleted", {"id": "user_ada"}, secret=fresh)
    both = f"v1a,AAAA {foreign['svix-signature']} {headers['svix-signature']}"
    assert _read(clerk, ({**headers, "svix-signature": both}, body)).user_id == "user_ada"


def test_five_minutes_of_clock_are_tolerated_and_no_more() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    for age_s in (-290, 290):
        assert _read(clerk, clerk.webhook("user.deleted", {"id": "user_ada"}, age_s=age_s))
    for age_s in (-310, 310, 86_400):
        with pytest.raises(BadWebhook):
            _read(clerk, clerk.webhook("user.deleted", {"id": "user_ada"}, age_s=age_s))


def test_an_unsigned_altered_or_misshapen_delivery_is_refused_alike() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    headers, body = clerk.webhook("user.deleted", {"id": "user_ada"})
    signature = headers["svix-signature"]
    odd_headers: dict[str, dict[str, str]] = {
        "no id": {"svix-id": ""},
        "another id": {"svix-id": "msg_other"},
        "an id with a dot": {"svix-id": "msg_2xQ9a." + headers["svix-timestamp"]},
        "an id too long": {"svix-id": "m" * 129},
        "no time": {"svix-timestamp": ""},
        "another time": {"svix-timestamp": str(int(headers["svix-timestamp"]) - 1)},
        "a time with a fraction": {"svix-timestamp": headers["svix-timestamp"] + ".0"},
        "a time in words": {"svix-timestamp": "now"},
        "an endless time": {"svix-timestamp": "9" * 400},
        "no signature": {"svix-signature": ""},
        "another version": {"svix-signature": signature.replace("v1,", "v2,")},
        "no version": {"svix-signature": signature.removeprefix("v1,")},
        "a cut signature": {"svix-signature": signature[:-6]},
        "an empty signature": {"svix-signature": "v1,"},
        "not base64": {"svix-signature": "v1,§§§"},
        "too many commas": {"svix-signature": signature + ",v1"},
        "endless signatures": {"svix-signature": "v1,AAAA " * 1000 + signature},
    }
    for what, changed in odd_headers.items():
        with pytest.raises(BadWebhook) as refused:
            _read(clerk, ({**headers, **changed}, body))
        assert refused.value.status == 400, what
        assert str(refused.value) == BadWebhook.title, what

    for changed in (body + b" ", body[:-1], body.replace(b"ada", b"eve"), b"", b"\xff\xfe"):
        with pytest.raises(BadWebhook):
            _read(clerk, (headers, changed))
    with pytest.raises(BadWebhook):
        _read(clerk, clerk.webhook("user.deleted", {"id": "user_ada"}, secret=webhook_secret()))
    with pytest.raises(BadWebhook):
        read_webhook(headers, body, [])
    assert _read(clerk, (headers, body))


def test_a_signed_body_of_another_shape_is_refused() -> None:
    clerk = ClerkServer(url="http://127.0.0.1:9")
    for kind, data in (
        ("user.updated", {}),
        ("user.updated", {"id": 7}),
        ("user.updated", {"id": "user_ada", "email_addresses": "none"}),
        ("user.updated", {"id": "user ada"}),
        ("user.deleted", {}),
        ("user.deleted", {"id": None}),
        ("user.deleted", {"id": ""}),
        ("user.deleted", {"id": "../ada"}),
    ):
        with pytest.raises(BadWebhook):
            _read(clerk, clerk.webhook(kind, data))
