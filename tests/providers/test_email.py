"""What every Email promises, run over each implementation, and what each promises on its own."""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import msgspec
import pytest

from guildhall.providers.email import (
    Message,
    OutboxOnly,
    Rejected,
    Resend,
    Smtp,
    Unavailable,
    open_email,
)
from guildhall.providers.email.outbox import NEWEST_KEPT, OutboxOnlyEmail
from guildhall.providers.email.resend import ResendEmail
from guildhall.providers.email.smtp import SmtpEmail
from guildhall.secret import Secret
from tests.providers.email_benches import (
    API_KEY,
    BENCHES,
    CONNECT_S,
    PASSWORD,
    SENDER,
    TOTAL_S,
    Mailbox,
    OpenBench,
    ResendServer,
    json_answer,
    make_certificate,
    resend_bench,
    serve_lines,
    serve_smtp,
    smtp_bench,
)
from tests.providers.http_server import Handler, Request, Response, serve_http

LINK = "https://hall.example.org/join/inv_5up3rs3cr3t"

every_implementation = pytest.mark.parametrize("bench", BENCHES.values(), ids=BENCHES.keys())


def mail(**changes: str) -> Message:
    return msgspec.structs.replace(
        Message(
            to="ada@example.com",
            subject="Zoë invites you to “Gärten”",
            text=f"Welcome!\nJoin here: {LINK}\n",
            html=f'<p>Welcome!</p>\n<a href="{LINK}">Join</a>\n',
            dedupe_key="invite-0192/1",
        ),
        **changes,
    )


# --- every implementation -------------------------------------------------------------------------------


@every_implementation
async def test_a_message_arrives_whole_at_its_one_recipient(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.email.send(mail())
        (arrived,) = b.arrived()
        assert arrived.recipients == ["ada@example.com"]
        assert arrived.subject == mail().subject
        assert arrived.text.splitlines() == mail().text.splitlines()
        assert arrived.html.splitlines() == mail().html.splitlines()


@every_implementation
async def test_a_message_sent_twice_under_one_dedupe_key_arrives_once(
    bench: OpenBench, tmp_path: Path
) -> None:
    async with bench(tmp_path) as b:
        await b.email.send(mail())
        await b.email.send(mail())
        await asyncio.gather(b.email.send(mail()), b.email.send(mail()))
        assert len(b.arrived()) == 1
        await b.email.send(mail(dedupe_key="invite-0192/2"))
        assert len(b.arrived()) == 2


@every_implementation
@pytest.mark.parametrize("key", ["x" * 300, "schlüssel\r\nX-Evil: 1", " ", ""])
async def test_any_dedupe_key_is_good_enough(bench: OpenBench, tmp_path: Path, key: str) -> None:
    async with bench(tmp_path) as b:
        await b.email.send(mail(dedupe_key=key))
        await b.email.send(mail(dedupe_key=key))
        assert len(b.arrived()) == 1


@every_implementation
@pytest.mark.parametrize(
    "breaking", ["\r\n", "\n", "\r", "\n ", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x00", "\x1b[2J"]
)
async def test_a_name_in_the_subject_cannot_start_another_header(
    bench: OpenBench, tmp_path: Path, breaking: str
) -> None:
    async with bench(tmp_path) as b:
        await b.email.send(mail(subject=f"Mallory{breaking}Bcc: eve@example.com invites you"))
        (arrived,) = b.arrived()
        assert arrived.recipients == ["ada@example.com"]
        assert arrived.subject.startswith("Mallory ")
        assert len(arrived.subject.splitlines()) == 1
        assert not any(ord(letter) < 32 for letter in arrived.subject)


@every_implementation
@pytest.mark.parametrize(
    "to",
    [
        "",
        "ada",
        "ada@",
        "@example.com",
        "ada@example.com,eve@example.com",
        "ada@example.com;eve@example.com",
        "ada@example.com eve@example.com",
        "Ada <ada@example.com>",
        "<ada@example.com>",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com\n",
        "ada@example.com\x00",
        "ada@exam\u2028ple.com",
        '"a b"@example.com',
        "ada@example.com(eve)",
        "ada@example.com@example.org",
        "a" * 250 + "@example.com",
        "\ud800@example.com",
    ],
)
async def test_a_recipient_that_is_not_one_plain_address_is_rejected_and_nothing_sent(
    bench: OpenBench, tmp_path: Path, to: str
) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(Rejected) as refused:
            await b.email.send(mail(to=to))
        assert b.arrived() == []
        assert "eve" not in str(refused.value)


@every_implementation
@pytest.mark.parametrize("part", ["subject", "text", "html", "dedupe_key"])
async def test_a_message_with_a_lone_surrogate_is_rejected(
    bench: OpenBench, tmp_path: Path, part: str
) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(Rejected):
            await b.email.send(mail(**{part: "x\ud800y"}))
        assert b.arrived() == []


@every_implementation
async def test_a_long_body_in_many_scripts_arrives_unchanged(bench: OpenBench, tmp_path: Path) -> None:
    text = "日本語 ﷽ 🌍 " * 400 + "\n.\n..\nFrom here\n" + "x" * 5_000 + "\n"
    async with bench(tmp_path) as b:
        await b.email.send(mail(text=text))
        assert b.arrived()[0].text.splitlines() == text.splitlines()


FAULTS: list[tuple[str, str, type[Exception]]] = [
    ("resend", "refuses", Rejected),
    ("resend", "is busy", Unavailable),
    ("resend", "is broken", Unavailable),
    ("resend", "is slow", Unavailable),
    ("resend", "accepts, then dies", Unavailable),
    ("resend", "talks too much", Unavailable),
    ("resend", "sends us elsewhere", Unavailable),
    ("resend", "talks nonsense", Unavailable),
    ("resend", "is out of its depth", Unavailable),
    ("resend", "answers nothing useful", Unavailable),
    ("resend", "has a twin in flight", Unavailable),
    ("smtp", "refuses", Rejected),
    ("smtp", "is busy", Unavailable),
    ("smtp", "is broken", Unavailable),
    ("smtp", "is slow", Unavailable),
    ("smtp", "accepts, then dies", Unavailable),
    ("outbox", "is broken", Unavailable),
]


@pytest.mark.parametrize(("name", "fault", "outcome"), FAULTS, ids=[f"{n} {f}" for n, f, _ in FAULTS])
async def test_a_provider_that_fails_is_told_apart_by_whether_trying_again_helps(
    tmp_path: Path, name: str, fault: str, outcome: type[Exception]
) -> None:
    async with BENCHES[name](tmp_path) as b:
        b.fail(fault)
        started = time.monotonic()
        with pytest.raises((Rejected, Unavailable)) as failed:
            await b.email.send(mail())
        assert time.monotonic() - started < TOTAL_S + 1
        assert type(failed.value) is outcome
        for secret in ("ada", "5up3rs3cr3t", "Welcome"):
            assert secret not in str(failed.value)
        # The vendor's exception may name the recipient, so it must not ride along into a log.
        assert failed.value.__cause__ is None
        assert failed.value.__context__ is None or failed.value.__suppress_context__


@pytest.mark.parametrize("name", ["resend", "smtp"])
async def test_a_message_taken_by_a_server_that_then_dies_is_not_doubled_by_the_retry(
    tmp_path: Path, name: str
) -> None:
    async with BENCHES[name](tmp_path) as b:
        b.fail("accepts, then dies")
        with pytest.raises(Unavailable):
            await b.email.send(mail())
        server = b.seen[0]
        assert isinstance(server, ResendServer | Mailbox)
        server.fault = None
        await b.email.send(mail())
        assert len(b.arrived()) == 1


@pytest.mark.parametrize("name", ["resend", "smtp"])
async def test_a_server_that_is_not_there_is_unavailable(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        if name == "resend":
            provider = ResendEmail(Resend(Secret(API_KEY), SENDER, f"http://127.0.0.1:{port}"))
        else:
            provider = SmtpEmail(Smtp(host="127.0.0.1", port=port, sender=SENDER, security="none"))
        with pytest.raises(Unavailable):
            await provider.send(mail())
        await provider.aclose()


@pytest.mark.parametrize("name", ["resend", "smtp"])
async def test_a_cancelled_send_ends_at_once(tmp_path: Path, name: str) -> None:
    async with BENCHES[name](tmp_path) as b:
        b.fail("is slow")
        sending = asyncio.create_task(b.email.send(mail()))
        await asyncio.sleep(0.1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(sending, 0.3)


@every_implementation
async def test_asking_whether_mail_would_be_taken_sends_none(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.email.check()
        assert b.arrived() == []
    async with bench(tmp_path / "broken") as b:
        (tmp_path / "broken").mkdir()
        b.fail("is broken")
        with pytest.raises(Unavailable):
            await b.email.check()


async def test_a_resend_key_that_may_only_send_is_a_good_key() -> None:
    server = ResendServer()
    server.key_may_only_send = True
    async with serve_http(server.handle) as base_url:
        await ResendEmail(Resend(Secret(API_KEY), SENDER, base_url)).check()
        with pytest.raises(Rejected, match="API key"):
            await ResendEmail(Resend(Secret("re_other"), SENDER, base_url)).check()


async def test_smtp_tells_a_wrong_password_from_a_wrong_sender(tmp_path: Path) -> None:
    server_tls, client_tls = make_certificate(tmp_path)
    async with serve_smtp(Mailbox(), tls=server_tls) as port:
        good = Smtp(
            host="127.0.0.1",
            port=port,
            sender=SENDER,
            username="hall",
            password=Secret(PASSWORD),
            security="tls",
        )
        await SmtpEmail(good, tls_context=client_tls).check()
        for changed, words in (
            ({"password": Secret("guess")}, "password"),
            ({"sender": "hall@example.net"}, "sender"),
        ):
            bad = msgspec.structs.replace(good, **changed)
            with pytest.raises(Rejected, match=words):
                await SmtpEmail(bad, tls_context=client_tls).check()


def test_settings_and_messages_never_show_their_secrets() -> None:
    shown = [
        Resend(Secret(API_KEY), SENDER),
        Smtp(host="mail.test", sender=SENDER, username="u", password=Secret(PASSWORD)),
        mail(),
    ]
    for value in shown:
        for text in (repr(value), str(value), f"{value}", repr([value]), str(value.__rich_repr__())):
            assert "5up3rs3cr3t" not in text


@pytest.mark.parametrize(
    "sender", ["", "nobody", "a@example.org, b@example.org", "A <a@example.org\r\nX: y>"]
)
@pytest.mark.parametrize(
    "settings",
    [
        lambda sender: Resend(Secret(API_KEY), sender),
        lambda sender: Smtp(host="mail.test", sender=sender),
        lambda sender: OutboxOnly(Path("unused"), sender),
    ],
)
def test_a_sender_that_is_not_one_address_is_refused_when_opening(
    settings: Callable[[str], Resend | Smtp | OutboxOnly], sender: str
) -> None:
    with pytest.raises(ValueError):
        open_email(settings(sender))


async def test_each_settings_value_opens_its_own_implementation(tmp_path: Path) -> None:
    opened = [
        open_email(Resend(Secret(API_KEY), SENDER)),
        open_email(Smtp(host="mail.test", sender=SENDER)),
        open_email(OutboxOnly(tmp_path / "outbox", SENDER)),
    ]
    assert [type(each) for each in opened] == [ResendEmail, SmtpEmail, OutboxOnlyEmail]
    assert not (tmp_path / "outbox").exists()
    for each in opened:
        await each.aclose()


# --- Resend ---------------------------------------------------------------------------------------------


async def test_resend_is_given_the_dedupe_key_as_idempotency_key(tmp_path: Path) -> None:
    async with resend_bench(tmp_path) as b:
        await b.email.send(mail())
        server = b.seen[0]
        assert isinstance(server, ResendServer)
        assert server.requests[0].headers["idempotency-key"] == "invite-0192/1"


async def test_resend_follows_no_redirect(tmp_path: Path) -> None:
    async with resend_bench(tmp_path) as b:
        b.fail("sends us elsewhere")
        with pytest.raises(Unavailable):
            await b.email.send(mail())
        server = b.seen[0]
        assert isinstance(server, ResendServer)
        assert server.elsewhere == [] and len(server.requests) == 1


@pytest.mark.parametrize(
    ("said", "waited"),
    [
        ("7", 7),
        (" 0 ", 0),
        ("99999999", 86_400),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, None),
        # The name of a test may not hold the time: two processes would not agree about it.
        pytest.param(
            format_datetime(datetime.now(UTC) + timedelta(hours=50), usegmt=True), 86_400, id="later"
        ),
        pytest.param(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True), 0, id="before"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_resend_hands_on_what_retry_after_says(status: int, said: str, waited: int | None) -> None:
    async def busy(_: Request) -> Response:
        return json_answer(status, {"name": "busy", "message": ""}, {"Retry-After": said})

    async with serve_http(busy) as base_url:
        provider = ResendEmail(Resend(Secret(API_KEY), SENDER, base_url))
        with pytest.raises(Unavailable) as later:
            await provider.send(mail())
        assert later.value.retry_after_s == waited
        await provider.aclose()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(s, Rejected) for s in (400, 401, 403, 404, 405, 409, 413, 422, 451)]
    + [(s, Unavailable) for s in (408, 425, 429, 500, 501, 502, 503, 504, 301, 302, 304, 308)],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
async def test_resend_statuses_are_read_whatever_the_body(
    status: int, outcome: type[Exception], content_type: str
) -> None:
    async def answer(_: Request) -> Response:
        return Response(status, {"Content-Type": content_type}, b'{"message": "?"}')

    async with serve_http(answer) as base_url:
        provider = ResendEmail(Resend(Secret(API_KEY), SENDER, base_url))
        with pytest.raises(outcome):
            await provider.send(mail())
        await provider.aclose()


async def test_resend_does_not_unpack_an_answer_that_grows() -> None:
    async def bomb(_: Request) -> Response:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        return Response(200, headers, b"\x1f\x8b")

    async with serve_http(bomb) as base_url:
        provider = ResendEmail(Resend(Secret(API_KEY), SENDER, base_url))
        with pytest.raises(Unavailable):
            await provider.send(mail())
        await provider.aclose()


async def test_two_accounts_in_one_process_keep_apart() -> None:
    seen: dict[str, set[str]] = {"one": set(), "two": set()}

    def account(name: str) -> Handler:
        async def handle(request: Request) -> Response:
            seen[name].add(request.headers["authorization"])
            await asyncio.sleep(0.01)
            return json_answer(200, {"id": name})

        return handle

    async with serve_http(account("one")) as one, serve_http(account("two")) as two:
        first = ResendEmail(Resend(Secret("key-one"), SENDER, one))
        second = ResendEmail(Resend(Secret("key-two"), SENDER, two))
        await asyncio.gather(
            *(each.send(mail(dedupe_key=str(n))) for n in range(20) for each in (first, second))
        )
        assert seen == {"one": {"Bearer key-one"}, "two": {"Bearer key-two"}}
        await first.aclose()
        await second.aclose()


# --- SMTP -----------------------------------------------------------------------------------------------


async def test_smtp_mail_has_text_and_html_as_alternatives_and_an_id_from_its_dedupe_key(
    tmp_path: Path,
) -> None:
    async with smtp_bench(tmp_path) as b:
        await b.email.send(mail())
        await b.email.send(mail(dedupe_key="another"))
        box = b.seen[0]
        assert isinstance(box, Mailbox)
        assert len(box.by_id) == 2
        (_, sent), _ = box.by_id.values()
        assert sent.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in sent.iter_parts()] == ["text/plain", "text/html"]
        assert str(sent["From"]) == SENDER and str(sent["To"]) == "ada@example.com"
        assert str(sent["Message-ID"]).endswith("@example.org>")
        assert all(len(line) < 1_000 and line.isascii() for line in box.raw[0].splitlines())


async def test_smtp_refuses_a_recipient_the_server_does_not_know(tmp_path: Path) -> None:
    async with smtp_bench(tmp_path) as b:
        with pytest.raises(Rejected) as refused:
            await b.email.send(mail(to="nobody@example.com"))
        assert "nobody" not in str(refused.value)


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_smtp_logs_in_over_an_encrypted_connection(tmp_path: Path, security: str) -> None:
    server_tls, client_tls = make_certificate(tmp_path)
    box = Mailbox()
    starttls, tls = (server_tls, None) if security == "starttls" else (None, server_tls)
    async with serve_smtp(box, starttls=starttls, tls=tls) as port:
        settings = Smtp(
            host="127.0.0.1",
            port=port,
            sender=SENDER,
            username="hall",
            password=Secret(PASSWORD),
            security="starttls" if security == "starttls" else "tls",
        )
        await SmtpEmail(settings, tls_context=client_tls).send(mail())
        assert box.logins == ["hall"] and len(box.arrived()) == 1

        with pytest.raises(Unavailable):
            await SmtpEmail(settings).send(mail(dedupe_key="a certificate nobody signed"))
        wrong = msgspec.structs.replace(settings, password=Secret("guess"))
        with pytest.raises(Rejected):
            await SmtpEmail(wrong, tls_context=client_tls).send(mail(dedupe_key="a wrong password"))
        assert len(box.arrived()) == 1


async def test_smtp_never_falls_back_to_an_unencrypted_connection() -> None:
    box = Mailbox()
    async with serve_smtp(box) as port:
        settings = Smtp(host="127.0.0.1", port=port, sender=SENDER)
        with pytest.raises(Unavailable):
            await SmtpEmail(settings).send(mail())
        assert box.arrived() == []


def test_smtp_settings_never_send_a_password_in_the_clear() -> None:
    with pytest.raises(ValueError):
        Smtp(host="h", sender=SENDER, username="u", password=Secret(PASSWORD), security="none")
    with pytest.raises(ValueError):
        Smtp(host="h", sender=SENDER, username="u")


async def test_smtp_gives_up_on_a_server_that_never_stops_talking_or_never_starts() -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"220-welcome to a long story\r\n" * 1_000)
            await writer.drain()

    async def garbage(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async def silent(_: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    for speak in (endless, garbage, silent):
        async with serve_lines(speak) as port:
            settings = Smtp(host="127.0.0.1", port=port, sender=SENDER, security="none")
            started = time.monotonic()
            with pytest.raises(Unavailable):
                await SmtpEmail(settings, connect_s=CONNECT_S, total_s=TOTAL_S).send(mail())
            assert time.monotonic() - started < TOTAL_S + 1


# --- the outbox -----------------------------------------------------------------------------------------


async def test_the_outbox_lists_the_newest_first_and_finds_one_by_its_id(tmp_path: Path) -> None:
    outbox = OutboxOnlyEmail(OutboxOnly(tmp_path / "outbox", SENDER, console=False))
    assert await outbox.list_messages(10) == []
    for number in range(30):
        await outbox.send(mail(dedupe_key=f"key-{number}", subject=f"Mail {number}"))
    newest = await outbox.list_messages(3)
    assert [each.subject for each in newest] == ["Mail 29", "Mail 28", "Mail 27"]
    assert newest[0].sender == SENDER and newest[0].to == "ada@example.com"
    assert datetime.now(UTC) - newest[0].sent_at < timedelta(minutes=1)
    assert await outbox.find_message(newest[1].id) == newest[1]
    for unknown in ("0" * 40, "", "../../etc/passwd", newest[1].id + "\n", newest[1].id.upper() + "/"):
        assert await outbox.find_message(unknown) is None


async def test_the_outbox_is_readable_by_its_owner_alone_and_leaves_no_parts(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "outbox"
    outbox = OutboxOnlyEmail(OutboxOnly(folder, SENDER, console=False))
    await asyncio.gather(*(outbox.send(mail(dedupe_key=f"key-{n % 5}")) for n in range(40)))
    files = list(folder.iterdir())
    assert len(files) == 5 and all(path.suffix == ".json" for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_the_outbox_keeps_the_newest_thousand(tmp_path: Path) -> None:
    outbox = OutboxOnlyEmail(OutboxOnly(tmp_path, SENDER, console=False))
    for number in range(NEWEST_KEPT + 5):
        await outbox.send(mail(dedupe_key=f"key-{number}", subject=str(number)))
    kept = await outbox.list_messages(5_000)
    assert NEWEST_KEPT == 1_000
    assert [each.subject for each in kept] == [str(number) for number in range(NEWEST_KEPT + 4, 4, -1)]


async def test_the_outbox_survives_what_it_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "strange.json").write_text("{")
    (tmp_path / "notes.txt").write_text("mine")
    outbox = OutboxOnlyEmail(OutboxOnly(tmp_path, SENDER, console=False))
    await outbox.send(mail())
    assert [each.to for each in await outbox.list_messages(10)] == ["ada@example.com"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Hello\nJoin: {LINK}\nOr type 123456", f"→ {LINK}"),
        ("Your code is 048213. It ends soon.", "→ 048213"),
        ("Your code 048213 works at https://hall.example.org/in", "→ 048213"),
        ("Written in 2026, nothing to click", None),
    ],
)
async def test_the_console_shows_the_first_link_or_code_once(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    shown: str | None,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    outbox = OutboxOnlyEmail(OutboxOnly(tmp_path, SENDER, console=True))
    await outbox.send(mail(text=text, subject="Hi\x1b[31m\nthere"))
    await outbox.send(mail(text=text))
    printed = capsys.readouterr().out
    assert printed.count("mail to ada@example.com") == 1
    assert "\x1b" not in printed and "Hi [31m there" in printed
    assert printed.count("→") == (shown is not None)
    if shown is not None:
        assert any(line.endswith(shown) for line in printed.splitlines())


@pytest.mark.parametrize(("console", "terminal"), [(False, True), (True, False)])
async def test_a_quiet_outbox_and_one_whose_output_is_kept_print_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    console: bool,
    terminal: bool,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    await OutboxOnlyEmail(OutboxOnly(tmp_path, SENDER, console=console)).send(mail())
    assert capsys.readouterr().out == ""


async def test_the_outbox_forgets_what_is_unwanted_and_nothing_else(tmp_path: Path) -> None:
    outbox = OutboxOnlyEmail(OutboxOnly(tmp_path, SENDER, console=False))
    for number, to in enumerate(("ada@example.com", "bo@example.com", "ada@example.com")):
        await outbox.send(mail(to=to, dedupe_key=f"key-{number}"))
    (tmp_path / "strange.json").write_text("{")

    await outbox.forget(lambda to, dedupe_key: to.startswith("ada") and dedupe_key != "key-0")
    assert [each.dedupe_key for each in await outbox.list_messages(10)] == ["key-1", "key-0"]


@every_implementation
async def test_forgetting_asks_no_server(bench: OpenBench, tmp_path: Path) -> None:
    async with bench(tmp_path) as box:
        await box.email.forget(lambda to, dedupe_key: True)
