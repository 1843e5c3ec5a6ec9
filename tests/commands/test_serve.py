"""`guildhall serve` as an operator meets it: one command, real processes, real signals."""

import asyncio
import math
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from guildhall.providers.email import OutboxOnly
from guildhall.settings import SettingsError, read_settings
from tests.commands.serving import (
    Serving,
    environment,
    free_port,
    guildhall,
    processes_of_database,
    serving,
)

pytestmark = pytest.mark.xdist_group("commands")


async def test_one_command_runs_everything_and_says_where_it_is(service: Serving) -> None:
    async with asyncio.timeout(10):
        while "is ready" not in service.output:
            await asyncio.sleep(0.05)

    said = service.output
    assert f"http://localhost:{service.port}" in said
    assert str(service.data_dir) in said
    assert str(service.data_dir / "outbox") in said
    assert "guildhall token --email" in said
    assert "granian" not in said.lower()


async def test_a_token_from_the_operator_is_a_session_while_the_service_runs(service: Serving) -> None:
    done = await guildhall("token", "--email", "Grace@example.org", "--name", "Grace", env=service.env)
    assert done.code == 0
    assert done.out.count("\n") == 1
    async with httpx.AsyncClient(base_url=service.base_url) as client:
        head = {"Authorization": f"Bearer {done.out.strip()}"}
        made = await client.post("/api/communities", json={"name": "Gardeners"}, headers=head)
        assert made.status_code == 201, made.text

        again = {"Authorization": f"Bearer {await service.token('grace@example.org')}"}
        mine = await client.get("/api/communities", headers=again)
        assert [item["id"] for item in mine.json()["items"]] == [made.json()["id"]]


async def test_an_account_survives_a_move_to_another_address(tmp_path: Path) -> None:
    before = environment(tmp_path / "data", port=free_port())
    done = await guildhall("token", "--email", "ada@example.org", env=before)
    assert done.code == 0, done
    async with serving(tmp_path / "data", public_url="http://gardeners.example") as service:
        for token in (done.out.strip(), await service.token("ada@example.org")):
            head = {"Authorization": f"Bearer {token}"}
            answer = httpx.get(f"{service.base_url}/api/communities", headers=head)
            assert answer.status_code == 200, answer.text


async def test_several_workers_are_several_processes(service: Serving) -> None:
    family = [pid for pid in service.processes() if pid not in processes_of_database(service.data_dir)]
    listening = {pid for pid in family if _listens(pid, service.port)}
    assert len(listening) == 2
    # Both of them take connections.
    kept = httpx.Limits(max_keepalive_connections=40)
    async with httpx.AsyncClient(base_url=service.base_url, limits=kept, timeout=30) as client:
        await asyncio.gather(*(client.get("/api/backlog") for _ in range(40)))
        assert {pid for pid in family if _sockets(pid, service.port, _ESTABLISHED)} == listening


async def test_a_worker_that_is_killed_is_replaced(service: Serving) -> None:
    family = [pid for pid in service.processes() if pid not in processes_of_database(service.data_dir)]
    victim = next(pid for pid in family if _listens(pid, service.port))
    os.kill(victim, signal.SIGKILL)
    async with asyncio.timeout(10):
        while True:
            now = [pid for pid in service.processes() if pid not in processes_of_database(service.data_dir)]
            listening = [pid for pid in now if _listens(pid, service.port)]
            if len(listening) == 2 and victim not in listening:
                break
            await asyncio.sleep(0.1)


async def test_a_second_service_on_the_same_data_directory_is_told_so(service: Serving) -> None:
    done = await guildhall("serve", "--port", str(free_port()), env=service.env)
    assert done.code == 1
    assert "already being served" in done.err
    assert str(service.process.pid) in done.err


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = await guildhall("serve", env=environment(tmp_path / "data", port=port))
    assert done.code == 1
    assert f"Port {port} is in use" in done.err
    assert not (tmp_path / "data" / "postgres").exists()


async def test_all_problems_of_the_settings_are_told_at_once(tmp_path: Path) -> None:
    env = environment(tmp_path, port="many", email="resend", smpt_host="x")
    for command in ("serve", "worker", "migrate"):
        done = await guildhall(command, env=env)
        assert done.code == 1
        for name in ("PORT", "RESEND_API_KEY", "EMAIL_FROM", "SMPT_HOST"):
            assert f"GUILDHALL_{name}" in done.err, command
        assert "Traceback" not in done.err


SENT = {"email": "smtp", "smtp_host": "mail.example.org", "email_from": "hello@example.org"}
OPEN = {**SENT, "mode": "production", "public_url": "https://guild.example", "rate_limit_scale": 1}
CLERK = {"identity": "clerk", "clerk_issuer": "https://clerk.guild.example"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"public_url": ""}, "PUBLIC_URL"),
        ({"public_url": "http://guild.example"}, "PUBLIC_URL"),
        ({"rate_limit_scale": 0}, "RATE_LIMIT_SCALE"),
        ({"email": "outbox", "smtp_host": None}, "EMAIL"),
        ({"secret": "a" * 32}, "SECRET"),
        ({"secret": "0123456789abcdef" * 2, "secret_previous": "change-" * 5}, "SECRET_PREVIOUS"),
        ({**CLERK, "clerk_secret_key": "sk_test_" + "0123456789abcdef" * 2}, "CLERK_SECRET_KEY"),
    ],
)
def test_what_does_for_trying_things_is_refused_in_production(
    tmp_path: Path, change: dict[str, object], name: str
) -> None:
    read_settings(environment(tmp_path, **OPEN))
    given = {key: value for key, value in {**OPEN, **change}.items() if value is not None}
    with pytest.raises(SettingsError) as refused:
        read_settings(environment(tmp_path, **given))
    assert [problem.split()[0] for problem in refused.value.problems] == [f"GUILDHALL_{name}"]
    # While one tries things it does.
    read_settings(environment(tmp_path, **{**given, "mode": "development"}))


def test_in_production_nothing_is_described_and_no_mail_is_shown_unasked(tmp_path: Path) -> None:
    settings = read_settings(environment(tmp_path, **OPEN))
    assert (settings.docs, settings.metrics) == (False, False)
    assert read_settings(environment(tmp_path, **OPEN, docs=True)).docs
    tried = read_settings(environment(tmp_path))
    assert tried.docs and isinstance(tried.email, OutboxOnly) and tried.email.console


async def test_settings_that_no_provider_can_use_are_all_told_before_anything_serves(tmp_path: Path) -> None:
    env = environment(
        tmp_path / "data",
        port=free_port(),
        identity="clerk",
        clerk_issuer="https://clerk.example.org",
        clerk_jwt_key="no key",
        email="smtp",
        email_from="nobody in particular",
        smtp_host="mail.example.org",
        blobs_url="ftp://files.example.org",
        chat_url="ftp://chat.example.org",
        chat_key="key",
        chat_secret="a secret of the chat service, long enough",
    )
    for command in ("serve", "check"):
        done = await guildhall(command, env=env)
        assert done.code == 1
        for name in ("CLERK_JWT_KEY", "EMAIL_FROM", "BLOBS_URL", "CHAT_URL"):
            assert f"GUILDHALL_{name}" in done.out + done.err, done
        assert "Traceback" not in done.out + done.err


async def test_no_secret_is_on_a_command_line(service: Serving) -> None:
    secret = (service.data_dir / "secret").read_text()
    assert stat.S_IMODE((service.data_dir / "secret").stat().st_mode) == 0o600
    for pid in service.processes():
        assert secret not in Path(f"/proc/{pid}/cmdline").read_text()


async def test_a_signal_while_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    for delay_s in (0.3, 0.6, 0.9, 1.2, 1.5):
        env = environment(tmp_path / "data", port=free_port())
        service = Serving(tmp_path / "data", int(env["GUILDHALL_PORT"]), env, ())
        starting = asyncio.create_task(service.start())
        await asyncio.sleep(delay_s)
        if not starting.done():
            starting.cancel()
        # A signal that comes before the first line of ours has run ends the process by itself.
        assert await service.stop() in (0, -signal.SIGTERM), service.output
        await service.gone()


@pytest.mark.parametrize("how", ["SIGTERM to the service", "Ctrl-C at the terminal"])
async def test_what_was_sent_before_the_signal_is_answered_and_then_nothing_is_left(
    tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    async with serving(tmp_path / "data", workers=2) as service:
        token = await service.token("ada@example.org")
        group = os.getpgid(service.process.pid)
        socket_folder = _socket_folder(service)
        head = {"Authorization": f"Bearer {token}"}
        club = httpx.post(f"{service.base_url}/api/communities", json={"name": "Club"}, headers=head).json()
        load = _Load(service, token, club["id"])
        finish = await load.begin()
        writers = [asyncio.create_task(load.write()) for _ in range(8)]
        await asyncio.sleep(1)
        slow = asyncio.create_task(finish(0.5))
        signalled = time.monotonic()
        if how == "Ctrl-C at the terminal":
            # A terminal tells every process in the foreground.
            os.killpg(group, signal.SIGINT)
            code = await service.stop(None)
        else:
            code = await service.stop(signal.SIGTERM)
        assert code == 0, service.output
        took_s = time.monotonic() - signalled
        assert took_s < 25
        record_property(f"Seconds from {how}, under load, to the end", took_s)
        await asyncio.gather(*writers)
        assert b" 201 " in await slow
        statuses = {answer.split()[1] for answer in load.answered}
        assert statuses == {b"201"}
        await service.gone()
        assert not list(socket_folder.glob(".s.PGSQL*"))
        assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()
        assert "Traceback" not in service.output

    async with serving(tmp_path / "data") as service:
        feed = httpx.get(f"{service.base_url}/api/posts?communityId={club['id']}", headers=head).json()
        # All that was answered, and the slow one. A request that nobody had begun to read had no effect; of
        # one that came with the signal the answer may be lost, though seldom: at most one of each writer.
        done = len(load.answered) + 1
        assert done <= feed["total"] <= done + len(writers)


class _Load:
    """Requests that each make a post, on a connection for each, so that no client tries one again."""

    def __init__(self, service: Serving, token: str, community: str) -> None:
        self.service = service
        self.body = f'{{"communityId": "{community}", "content": "Heave!"}}'.encode()
        self.head = (
            f"POST /api/posts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
            "Connection: close\r\n\r\n"
        ).encode()
        self.answered: list[bytes] = []

    async def write(self) -> None:
        """One after another, until nobody listens any more."""
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
            except ConnectionRefusedError:
                return
            writer.write(self.head + self.body)
            try:
                answer = await reader.read()
            except ConnectionError:
                return
            if not answer:
                return
            self.answered.append(answer)

    async def begin(self) -> Callable[[float], Coroutine[Any, Any, bytes]]:
        """Send a request but for its last byte, until the service has begun to read it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        head = self.head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
        writer.write(head + self.body[:-1])
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")

        async def finish(pause_s: float) -> bytes:
            await asyncio.sleep(pause_s)
            writer.write(self.body[-1:])
            return await reader.read()

        return finish


def _socket_folder(service: Serving) -> Path:
    return Path((service.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4])


START_S = 3.0


async def test_an_existing_installation_answers_soon_after_its_start(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with serving(tmp_path / "data"):
        pass
    # How soon it can be: a machine that tests keep busy may take longer at times.
    soonest = math.inf
    for _ in range(5):
        async with serving(tmp_path / "data") as again:
            soonest = min(soonest, again.ready_after_s)
        if soonest < START_S:
            break
    record_property("Seconds from the start of an installation to its first answer", soonest)
    assert soonest < START_S


def _listens(pid: int, port: int) -> bool:
    return _sockets(pid, port, _LISTENING) > 0


# As the kernel writes them.
_ESTABLISHED, _LISTENING = "01", "0A"


def _sockets(pid: int, port: int, state: str) -> int:
    """How many sockets in this state the process itself has on the port."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == state and int(line.split()[1].split(":")[1], 16) == port
    }
    try:
        targets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return 0
    return sum(f"socket:[{inode}]" in targets for inode in inodes)
