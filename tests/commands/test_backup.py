"""A backup taken under load restores into an empty installation as it was, which sends nothing until told."""

import asyncio
import contextlib
import os
import pwd
import shutil
import stat
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from guildhall.providers.postgres import EmbeddedPostgres
from tests import cluster as clusters
from tests.commands.serving import Serving, environment, guildhall, serving

pytestmark = pytest.mark.xdist_group("commands")

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + b"\x01" * 6_000_000

# What the service does by itself changes these at any time.
RESTLESS = {
    "installation",
    "pgqueuer",
    "pgqueuer_log",
    "pgqueuer_schedules",
    "pgqueuer_statistics",
    "rate_buckets",
    "workers",
}


class BackedUp:
    """What was there when the backup was made, and the backup."""

    def __init__(self, file: Path, token: str, community: str, url: str, rows: dict[str, str]) -> None:
        self.file = file
        self.token = token
        self.community = community
        self.url = url
        self.rows = rows


class Client(httpx.AsyncClient):
    def __init__(self, service: Serving, token: str) -> None:
        super().__init__(base_url=service.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.request(method, path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


async def rows_of(url: str) -> dict[str, str]:
    """A digest of each table's content."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
        return {
            row["name"]: await connection.fetchval(
                f'SELECT count(*) || md5(string_agg(t::text, $1 ORDER BY t::text)) FROM "{row["name"]}" AS t',
                "|",
            )
            for row in tables
            if row["name"] not in RESTLESS
        }
    finally:
        await connection.close()


def owner_of(data_dir: Path) -> str:
    return EmbeddedPostgres(data_dir).url("guildhall_owner")


async def upload(ada: Client, content: bytes) -> str:
    """Store a picture; answers its address."""
    about = {"filename": "p.png", "contentType": "image/png", "sizeBytes": len(content), "purpose": "logo"}
    place = await ada.ok("POST", "/api/uploads", about)
    path = httpx.URL(place["uploadUrl"]).raw_path.decode()
    sent = await ada.request(place["method"], path, content=content, headers=place["headers"])
    assert sent.is_success, sent.text
    return place["url"]


@pytest_asyncio.fixture(scope="module")
async def backed_up(service: Serving, tmp_path_factory: pytest.TempPathFactory) -> BackedUp:
    folder = tmp_path_factory.mktemp("backups")
    token = await service.token("ada@example.org", "--hours", "48")
    async with Client(service, token) as ada:
        community = (await ada.ok("POST", "/api/communities", {"name": "Archivists"}))["id"]
        url = await upload(ada, PNG)
        await ada.ok("PATCH", f"/api/communities/{community}", {"logoUrl": url})
        await ada.ok("POST", "/api/groups", {"communityId": community, "name": "Cellar", "isPrivate": True})
        await ada.ok("POST", "/api/posts", {"communityId": community, "content": "Grüße \\ \t'quoted'\n"})
        await ada.ok("POST", f"/api/communities/{community}/invite", {"email": "bo@example.org"})
        async with asyncio.timeout(20):
            invites = f"/api/communities/{community}/invites"
            while (await ada.ok("GET", invites))["items"][0]["sentAt"] is None:
                await asyncio.sleep(0.05)
    rows = await rows_of(owner_of(service.data_dir))
    done = await guildhall("backup", str(folder / "hall"), env=service.env)
    assert done.code == 0, done
    assert "1 file into" in done.out and str(folder / "hall.secret") in done.out
    assert rows == await rows_of(owner_of(service.data_dir))
    return BackedUp(folder / "hall", token, community, url, rows)


def test_a_backup_is_for_its_owner_alone_and_the_secret_is_apart(
    backed_up: BackedUp, service: Serving
) -> None:
    secret = backed_up.file.with_name("hall.secret")
    assert sorted(path.name for path in backed_up.file.parent.iterdir()) == ["hall", "hall.secret"]
    for path in (backed_up.file, secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret.read_text().strip() == (service.data_dir / "secret").read_text()
    assert secret.read_bytes().strip() not in backed_up.file.read_bytes()


async def test_a_backup_overwrites_nothing(backed_up: BackedUp, service: Serving, tmp_path: Path) -> None:
    before = backed_up.file.read_bytes()
    done = await guildhall("backup", str(backed_up.file), env=service.env)
    assert done.code == 1 and "exists already" in done.err
    assert backed_up.file.read_bytes() == before
    done = await guildhall("backup", str(tmp_path / "no" / "folder"), env=service.env)
    assert done.code == 1 and "does not exist" in done.err
    done = await guildhall("backup", str(tmp_path / "b"), env=environment(tmp_path / "mistyped"))
    assert done.code == 1 and "right --data-dir" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest_asyncio.fixture(scope="module")
async def restored(backed_up: BackedUp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """A service on what was restored into an empty data directory."""
    data_dir = tmp_path_factory.mktemp("restored") / "data"
    done = await guildhall("restore", str(backed_up.file), env=environment(data_dir))
    assert done.code == 0, done
    assert "guildhall release" in done.out and "guildhall revoke-invites" in done.out
    async with serving(data_dir) as service:
        yield service


async def test_what_was_backed_up_is_there_again(restored: Serving, backed_up: BackedUp) -> None:
    assert await rows_of(owner_of(restored.data_dir)) == backed_up.rows
    async with Client(restored, backed_up.token) as ada:
        communities = (await ada.ok("GET", "/api/communities"))["items"]
        assert backed_up.community in [item["id"] for item in communities]
        stored = await ada.get(httpx.URL(backed_up.url).path)
        assert stored.status_code == 200 and stored.content == PNG
        invites = (await ada.ok("GET", f"/api/communities/{backed_up.community}/invites"))["items"]
        # Its link is derived from the secret, and is the very link that was sent.
        token = invites[0]["token"]
        assert (await ada.ok("GET", f"/api/invites/{token}"))["communityName"] == "Archivists"


async def test_nothing_is_sent_after_a_restore_until_the_operator_releases_it(
    restored: Serving, backed_up: BackedUp
) -> None:
    outbox = restored.data_dir / "outbox"
    async with Client(restored, backed_up.token) as ada:
        await ada.ok("POST", f"/api/communities/{backed_up.community}/invite", {"email": "cy@example.org"})
    await asyncio.sleep(4)
    assert not list(outbox.glob("*.json"))
    checked = await guildhall("check", env=restored.env)
    assert checked.code == 1 and "held since a restore" in checked.out

    done = await guildhall("release", env=restored.env)
    assert done.code == 0 and "Released" in done.out
    async with asyncio.timeout(20):
        while not any("cy@example.org" in path.read_text() for path in outbox.glob("*.json")):
            await asyncio.sleep(0.1)
    assert (await guildhall("check", env=restored.env)).code == 0
    assert "Nothing is held" in (await guildhall("release", env=restored.env)).out


async def test_all_open_invites_are_taken_back_by_one_command(restored: Serving, backed_up: BackedUp) -> None:
    async with Client(restored, backed_up.token) as ada:
        invites = (await ada.ok("GET", f"/api/communities/{backed_up.community}/invites"))["items"]
        assert invites
        done = await guildhall("revoke-invites", env=restored.env)
        assert f"{len(invites)} open invite" in done.out, done
        for invite in invites:
            assert (await ada.ok("GET", f"/api/invites/{invite['token']}"))["status"] == "revoked"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
async def test_what_root_restores_into_somebodys_folder_is_theirs(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    somebody = pwd.getpwnam("nobody")
    os.chown(data_dir, somebody.pw_uid, somebody.pw_gid)
    done = await guildhall("restore", str(backed_up.file), env=environment(data_dir))
    assert done.code == 0, done
    assert {path.lstat().st_uid for path in data_dir.rglob("*")} == {somebody.pw_uid}


async def test_a_restore_goes_only_where_nothing_is(
    service: Serving, backed_up: BackedUp, tmp_path: Path
) -> None:
    done = await guildhall("restore", str(backed_up.file), env=service.env)
    assert done.code == 1 and "already being served" in done.err

    with EmbeddedPostgres(tmp_path / "data") as cluster:
        connection = await asyncpg.connect(cluster.owner_url)
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.close()
    done = await guildhall("restore", str(backed_up.file), env=environment(tmp_path / "data"))
    assert done.code == 1 and "not empty: it has public.kept" in done.err
    assert not (tmp_path / "data" / "blobs").exists() and not (tmp_path / "data" / "secret").exists()

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_text("f" * 64)
    done = await guildhall("restore", str(backed_up.file), env=environment(tmp_path / "other"))
    assert done.code == 1 and "another secret" in done.err


async def test_a_file_that_is_no_whole_backup_changes_nothing(backed_up: BackedUp, tmp_path: Path) -> None:
    whole = backed_up.file.read_bytes()
    half, flipped, foreign, newer = (tmp_path / name for name in ("half", "flipped", "foreign", "newer"))
    half.write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"PGDMP") + 200
    flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with tarfile.open(foreign, "w") as tar:
        tar.add(__file__, "guildhall.json")
    newer.write_bytes(whole.replace(b'"0001_users"', b'"9999_later"').replace(b"0001_users", b"9999_later"))
    for file in (half, flipped, foreign, newer, Path(__file__), tmp_path / "missing"):
        done = await guildhall("restore", str(file), env=environment(tmp_path / "data"))
        assert done.code == 1 and str(file) in done.err, done
        assert "Traceback" not in done.err
        assert not (tmp_path / "data").exists()


async def test_without_its_secret_a_backup_restores_and_people_sign_in_anew(
    backed_up: BackedUp, tmp_path: Path
) -> None:
    shutil.copy(backed_up.file, tmp_path / "alone")
    cluster = clusters.test_cluster()
    url = await clusters.clone_database(cluster)
    env = environment(tmp_path / "data", database_url=clusters.app_url(cluster, url), database_owner_url=url)
    try:
        done = await guildhall("restore", str(tmp_path / "alone"), env=env)
        assert done.code == 0, done
        assert "Everybody signs in anew" in done.out
        assert await rows_of(url) == backed_up.rows
        # The application may do in another database what it might in the first.
        done = await guildhall("token", "--email", "ada@example.org", env=env)
        assert done.code == 0 and done.out.strip() != backed_up.token
    finally:
        await clusters.drop_database(cluster, url)


async def test_a_backup_under_load_is_one_instant(service: Serving, tmp_path: Path) -> None:
    token = await service.token("ada@example.org")
    written: list[str] = []
    stop = asyncio.Event()
    async with Client(service, token) as ada:
        community = (await ada.ok("POST", "/api/communities", {"name": "Diarists"}))["id"]

        async def write() -> None:
            while not stop.is_set():
                number = len(written)
                body = {"communityId": community, "content": f"Day {number}"}
                written.append((await ada.ok("POST", "/api/posts", body))["id"])
                if number % 20 == 0:
                    url = await upload(ada, PNG[: 10_000 + number])
                    await ada.ok("PATCH", f"/api/communities/{community}", {"coverImageUrl": url})

        writers = [asyncio.create_task(write()) for _ in range(4)]
        while len(written) < 20:
            await asyncio.sleep(0.01)
        before = set(written)
        done = await guildhall("backup", str(tmp_path / "hall"), env=service.env)
        stop.set()
        await asyncio.gather(*writers)
    assert done.code == 0, done
    assert len(written) > len(before)
    # Counters that do not add up, or a file that is missing, would fail the restore.
    done = await guildhall("restore", str(tmp_path / "hall"), env=environment(tmp_path / "data"))
    assert done.code == 0, done
    with EmbeddedPostgres(tmp_path / "data") as cluster:
        connection = await asyncpg.connect(cluster.owner_url)
        posts = await connection.fetch("SELECT id::text FROM posts WHERE space_id = $1::uuid", community)
        cover = await connection.fetchval("SELECT cover_image_url FROM spaces WHERE id = $1::uuid", community)
        await connection.close()
    assert before <= {row["id"] for row in posts} <= set(written)
    assert (tmp_path / "data" / "blobs" / httpx.URL(cover).path.removeprefix("/blobs/")).exists()


async def test_a_backup_that_is_stopped_leaves_nothing(service: Serving, tmp_path: Path) -> None:
    for delay_s in (0.4, 0.8, 1.2):
        stopping = asyncio.create_task(_stopped_backup(service, tmp_path / "hall", delay_s))
        done = await stopping
        left = {path.name for path in tmp_path.iterdir()}
        # One that comes when all is written, but before the end of the command, finds the backup whole.
        assert left in (set(), {"hall", "hall.secret"})
        assert left or done
        for name in left:
            (tmp_path / name).unlink()


async def _stopped_backup(service: Serving, file: Path, delay_s: float) -> int:
    from tests.commands.serving import command

    process = await asyncio.create_subprocess_exec(
        *command(),
        "backup",
        str(file),
        env=service.env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await asyncio.sleep(delay_s)
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    return await process.wait()
