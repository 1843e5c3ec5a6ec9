"""One bench per implementation of Email: the implementation, and what arrived at the other end."""

import asyncio
import email
import email.policy
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.smtp import SMTP as SmtpProtocol
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from guildhall.providers.email import Email, OutboxOnly, Resend, Smtp
from guildhall.providers.email.outbox import OutboxOnlyEmail
from guildhall.providers.email.resend import ResendEmail
from guildhall.providers.email.smtp import SmtpEmail
from guildhall.secret import Secret
from tests.providers.http_server import Request, Response, serve_http

SENDER = "Guildhall <hall@example.org>"
API_KEY = "re_test_5up3rs3cr3t"
PASSWORD = "smtp-5up3rs3cr3t"

# The scaled-down limits, in seconds, for tests with a slow server.
CONNECT_S, TOTAL_S = 0.3, 0.6


@dataclass
class Arrived:
    recipients: list[str]
    subject: str
    text: str
    html: str


@dataclass
class Bench:
    email: Email
    arrived: Callable[[], list[Arrived]]
    fail: Callable[[str], None]
    seen: list[object] = field(default_factory=list)


OpenBench = Callable[[Path], AbstractAsyncContextManager[Bench]]


# --- Resend ---------------------------------------------------------------------------------------------


def json_answer(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()
    )


class ResendServer:
    """Takes mail as the documented API does: one message for one idempotency key."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.by_key: dict[str, Arrived] = {}
        self.fault: str | None = None
        self.elsewhere: list[Request] = []
        self.key_may_only_send = False

    async def handle(self, request: Request) -> Response | None:
        if request.path == "/domains":
            return self._list_domains(request)
        if request.path != "/emails":
            self.elsewhere.append(request)
            return json_answer(200, {"id": "elsewhere"})
        self.requests.append(request)
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return json_answer(403, {"name": "invalid_api_key", "message": "no", "statusCode": 403})
        body = json.loads(request.body)
        key = request.headers["idempotency-key"]
        if self.fault is not None and self.fault != "accepts, then dies":
            return await self._misbehave(self.fault)
        if key not in self.by_key:
            self.by_key[key] = Arrived(body["to"], body["subject"], body["text"], body["html"])
        if self.fault == "accepts, then dies":
            return None
        return json_answer(200, {"id": "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"})

    def _list_domains(self, request: Request) -> Response:
        if self.fault == "is broken":
            return json_answer(500, {"name": "application_error", "message": ""})
        if request.headers.get("authorization") != f"Bearer {API_KEY}":
            return json_answer(403, {"name": "invalid_api_key", "message": "no", "statusCode": 403})
        if self.key_may_only_send:
            return json_answer(401, {"name": "restricted_api_key", "message": "", "statusCode": 401})
        return json_answer(200, {"data": []})

    async def _misbehave(self, fault: str) -> Response | None:
        match fault:
            case "refuses":
                return json_answer(422, {"name": "validation_error", "message": "ada@example.com is bad"})
            case "is busy":
                return json_answer(429, {"name": "rate_limit_exceeded", "message": ""}, {"Retry-After": "7"})
            case "is broken":
                return json_answer(500, {"name": "application_error", "message": ""})
            case "is slow":
                await asyncio.sleep(30)
                return None
            case "talks too much":
                return json_answer(200, {"id": "x", "padding": "y" * 1024 * 1024})
            case "sends us elsewhere":
                return json_answer(307, {"id": "x"}, {"Location": "/elsewhere"})
            case "talks nonsense":
                return Response(200, {"Content-Type": "text/html"}, b"<html>it works</html>")
            case "is out of its depth":
                return Response(200, {"Content-Type": "application/json"}, b"[" * 200_000)
            case "answers nothing useful":
                return json_answer(200, ["x"])
            case "has a twin in flight":
                return json_answer(409, {"name": "concurrent_idempotent_requests", "message": ""})
            case _:
                raise AssertionError(fault)


@asynccontextmanager
async def resend_bench(_folder: Path) -> AsyncIterator[Bench]:
    server = ResendServer()
    async with serve_http(server.handle) as base_url:
        settings = Resend(Secret(API_KEY), SENDER, base_url)
        provider = ResendEmail(settings, connect_s=CONNECT_S, total_s=TOTAL_S)
        yield Bench(
            provider,
            lambda: list(server.by_key.values()),
            lambda fault: setattr(server, "fault", fault),
            [server],
        )
        await provider.aclose()


# --- SMTP -----------------------------------------------------------------------------------------------


class Mailbox:
    """Accepts mail as a server does that knows a message by its Message-ID."""

    def __init__(self) -> None:
        self.by_id: dict[str, tuple[list[str], EmailMessage]] = {}
        self.raw: list[bytes] = []
        self.fault: str | None = None
        self.logins: list[str] = []
        self.were_encrypted: list[bool] = []

    async def handle_MAIL(
        self, server: SmtpProtocol, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.fault == "is broken":
            return "421 4.3.0 going down"
        if not address.endswith("@example.org"):
            return "553 5.7.1 not from here"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 yes"

    async def handle_DATA(self, server: SmtpProtocol, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        match self.fault:
            case "refuses":
                return "550 5.7.1 ada@example.com is unwanted"
            case "is busy":
                return "451 4.7.1 later"
            case "is broken":
                return "421 4.3.0 going down"
            case "is slow":
                await asyncio.sleep(30)
            case _:
                pass
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.raw.append(envelope.content)
        self.by_id[str(mail["Message-ID"])] = (list(envelope.rcpt_tos), mail)
        self.were_encrypted.append(session.ssl is not None)
        if self.fault == "accepts, then dies":
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "250 2.0.0 taken"

    async def handle_RCPT(
        self, server: SmtpProtocol, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 5.1.1 nobody@example.com does not live here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 yes"

    def authenticate(
        self, server: SmtpProtocol, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append(data.login.decode())
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    def arrived(self) -> list[Arrived]:
        mails: list[Arrived] = []
        for recipients, mail in self.by_id.values():
            text, html = mail.get_body(("plain",)), mail.get_body(("html",))
            assert text is not None and html is not None
            subject = str(mail["Subject"])
            mails.append(Arrived(recipients, subject, text.get_content(), html.get_content()))
        return mails


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of a server for localhost and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(pem))
    return server, client


@asynccontextmanager
async def serve_smtp(
    mailbox: Mailbox, *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Yields the port on loopback. A server with TLS in any form asks for a login."""
    loop = asyncio.get_running_loop()
    secured = starttls is not None or tls is not None

    def protocol() -> SmtpProtocol:
        return SmtpProtocol(
            mailbox,
            hostname="mail.test",
            loop=loop,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=mailbox.authenticate if secured else None,
            auth_required=secured,
            auth_require_tls=starttls is not None,
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def serve_lines(speak: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """A server that only speaks, whatever it is told."""
    tasks: set[asyncio.Task[None]] = set()

    async def connection(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await speak(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def smtp_bench(_folder: Path) -> AsyncIterator[Bench]:
    mailbox = Mailbox()
    async with serve_smtp(mailbox) as port:
        settings = Smtp(host="127.0.0.1", port=port, sender=SENDER, security="none")
        provider = SmtpEmail(settings, connect_s=CONNECT_S, total_s=TOTAL_S)
        yield Bench(provider, mailbox.arrived, lambda fault: setattr(mailbox, "fault", fault), [mailbox])
        await provider.aclose()


# --- the outbox -----------------------------------------------------------------------------------------


@asynccontextmanager
async def outbox_bench(folder: Path) -> AsyncIterator[Bench]:
    outbox = folder / "outbox"
    provider = OutboxOnlyEmail(OutboxOnly(outbox, SENDER, console=False))

    def arrived() -> list[Arrived]:
        kept = [json.loads(path.read_bytes()) for path in outbox.glob("*.json")]
        return [Arrived([each["to"]], each["subject"], each["text"], each["html"]) for each in kept]

    def fail(fault: str) -> None:
        assert fault == "is broken"
        # A file where the folder should be refuses root as well, whom permissions would not stop.
        outbox.write_text("not a folder")

    yield Bench(provider, arrived, fail)
    await provider.aclose()


BENCHES: dict[str, OpenBench] = {"resend": resend_bench, "smtp": smtp_bench, "outbox": outbox_bench}
