"""Clerk on loopback: its issuer with a JWKS, the user look-up of its backend API, and its signed webhooks.

It speaks over a real socket, so the client library and the verifier under test are the ones that ship.
"""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from svix.webhooks import Webhook

from guildhall.providers.identity import Clerk
from guildhall.secret import Secret
from tests.providers.http_server import Request, Response, serve_http
from tests.servers.token_maker import PARTY, TokenMaker, rsa_key

# "hang_up" closes without a word; "lie" and "lost" answer with a web page, as 200 and as 404; "shape" answers
# JSON of another shape.
Fault = Literal["hang_up", "error", "busy", "lie", "lost", "shape", "redirect", "too_large", "compressed"]


def _json(value: object, status: int = 200) -> Response:
    return Response(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _faulty(fault: Fault) -> Response | None:
    kind = {"Content-Type": "application/json"}
    match fault:
        case "hang_up":
            return None
        case "error":
            return _json({"errors": [{"message": "no", "long_message": "no", "code": "internal"}]}, 500)
        case "busy":
            return Response(429, {**kind, "Retry-After": "77"}, b'{"errors": []}')
        case "lie":
            return Response(200, {"Content-Type": "text/html"}, b"<title>It works</title>")
        case "lost":
            return Response(404, {"Content-Type": "text/html"}, b"<title>Nothing here</title>")
        case "shape":
            return _json({"unexpected": True})
        case "redirect":
            return Response(302, {**kind, "Location": "/elsewhere"}, b"{}")
        case "too_large":
            return Response(200, kind, b'{"keys": [' + b" " * 1_100_000 + b"]}")
        case "compressed":
            return Response(200, {**kind, "Content-Encoding": "gzip"}, b"\x1f\x8b")


def clerk_user(
    user_id: str,
    *,
    email: str | None = None,
    verified: bool = True,
    phone_number: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A user as Clerk's API writes one. `fields` replace whole members of it."""
    stamp = 1_700_000_000_000
    emails: list[dict[str, Any]] = [clerk_email("idn_other", "other@example.test", verified=True)]
    if email is not None:
        emails.append(clerk_email("idn_primary", email, verified=verified))
    phones: list[dict[str, Any]] = []
    if phone_number is not None:
        phones.append(
            {
                "id": "idn_phone",
                "object": "phone_number",
                "phone_number": phone_number,
                "reserved": False,
                "reserved_for_second_factor": False,
                "default_second_factor": False,
                "verification": None,
                "linked_to": [],
                "created_at": stamp,
                "updated_at": stamp,
            }
        )
    return {
        "id": user_id,
        "object": "user",
        "external_id": None,
        "primary_email_address_id": "idn_primary" if email is not None else None,
        "primary_phone_number_id": "idn_phone" if phone_number is not None else None,
        "primary_web3_wallet_id": None,
        "username": None,
        "first_name": None,
        "last_name": None,
        "has_image": False,
        "image_url": f"https://img.clerk.test/{user_id}",
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "email_addresses": emails,
        "phone_numbers": phones,
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": False,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": None,
        "banned": False,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": None,
        "updated_at": stamp,
        "created_at": stamp,
        "delete_self_enabled": True,
        "create_organization_enabled": False,
        "last_active_at": None,
        "legal_accepted_at": None,
        **fields,
    }


def clerk_email(record_id: str, address: str, *, verified: bool) -> dict[str, Any]:
    verification = {
        "object": "verification_otp",
        "status": "verified" if verified else "unverified",
        "strategy": "email_code",
        "attempts": 1,
        "expire_at": 1_700_000_600_000,
    }
    return {
        "id": record_id,
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": verification,
        "linked_to": [],
        "created_at": 1_700_000_000_000,
        "updated_at": 1_700_000_000_000,
    }


def webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass
class ClerkServer:
    """`jwks_fetches` and `user_fetches` count requests; `…_fault` and `…_delay_s` spoil the answers."""

    url: str = ""
    secret_key: str = "sk_test_only_for_this_run"
    webhook_secret: str = field(default_factory=webhook_secret)
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    jwks_fetches: int = 0
    jwks_fault: Fault | None = None
    jwks_delay_s: float = 0.0
    user_fetches: int = 0
    user_fault: Fault | None = None
    user_delay_s: float = 0.0
    _key_number: int = 0
    _published: list[int] = field(default_factory=lambda: [0])

    @property
    def issuer(self) -> str:
        return self.url

    @property
    def jwks_url(self) -> str:
        return self.url + "/.well-known/jwks.json"

    @property
    def maker(self) -> TokenMaker:
        """Signs with the current key."""
        return self._maker(self._key_number)

    def _maker(self, number: int) -> TokenMaker:
        return TokenMaker(self.issuer, rsa_key(number), f"ins_{number}Kx7")

    def token(self, sub: str = "user_ada", **overrides: Any) -> str:
        """A session token with the current key; `overrides` replace claims, ABSENT removes one."""
        return self.maker.token(sub, **overrides)

    def rotate(self, *, keep_old: bool = True) -> None:
        """Signs with a new key from now on. Verifiers learn of it when they fetch the JWKS."""
        self._key_number += 1
        self._published = [self._key_number, *(self._published if keep_old else [])]

    def put_user(self, user_id: str, **about: Any) -> dict[str, Any]:
        """Makes or replaces a user; `about` as for clerk_user()."""
        self.users[user_id] = clerk_user(user_id, **about)
        return self.users[user_id]

    def settings(self, **overrides: Any) -> Clerk:
        values: dict[str, Any] = {
            "issuer": self.issuer,
            "secret_key": Secret(self.secret_key),
            "authorized_parties": (PARTY,),
            "webhook_secrets": (Secret(self.webhook_secret),),
            "api_url": self.url + "/v1",
            **overrides,
        }
        return Clerk(**values)

    def webhook(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        delivery_id: str = "msg_2xQ9a",
        secret: str | None = None,
        age_s: float = 0.0,
    ) -> tuple[dict[str, str], bytes]:
        """Headers and raw body of a delivery, signed now or `age_s` seconds ago."""
        at = int(time.time() - age_s)
        body = json.dumps({"type": kind, "object": "event", "timestamp": at * 1000, "data": data})
        signature = Webhook(secret or self.webhook_secret).sign(
            delivery_id, datetime.fromtimestamp(at, UTC), body
        )
        headers = {
            "Content-Type": "application/json",
            "svix-id": delivery_id,
            "svix-timestamp": str(at),
            "svix-signature": signature,
        }
        return headers, body.encode()

    async def _answer(self, request: Request) -> Response | None:
        if request.method != "GET":
            return _json({"errors": []}, 405)
        if request.path == "/.well-known/jwks.json":
            self.jwks_fetches += 1
            await asyncio.sleep(self.jwks_delay_s)
            if self.jwks_fault is not None:
                return _faulty(self.jwks_fault)
            return _json({"keys": [self._maker(number).public_jwk for number in self._published]})
        if request.path.startswith("/v1/users/"):
            self.user_fetches += 1
            await asyncio.sleep(self.user_delay_s)
            return self._user(request)
        return _json({"errors": []}, 404)

    def _user(self, request: Request) -> Response | None:
        if self.user_fault is not None:
            return _faulty(self.user_fault)
        if request.headers.get("authorization") != f"Bearer {self.secret_key}":
            problem = {"message": "Unauthorized", "long_message": "", "code": "authentication_invalid"}
            return _json({"errors": [problem]}, 401)
        user = self.users.get(request.path.removeprefix("/v1/users/"))
        if user is None:
            problem = {"message": "not found", "long_message": "No user", "code": "resource_not_found"}
            return _json({"errors": [problem]}, 404)
        return _json(user)


@asynccontextmanager
async def clerk_server() -> AsyncIterator[ClerkServer]:
    server = ClerkServer()
    async with serve_http(server._answer) as url:
        server.url = url
        yield server
