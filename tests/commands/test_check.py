"""`guildhall check` says what is wrong, all of it, and what to do; what is well it calls well."""

import re
from pathlib import Path

import asyncpg
import pytest

from guildhall.db.migrate import migrate, names
from guildhall.providers.postgres import EmbeddedPostgres
from tests import cluster as clusters
from tests.commands.serving import Done, Serving, environment, free_port, guildhall
from tests.providers import email_benches, s3_server
from tests.providers.http_server import serve_http
from tests.servers.clerk_server import clerk_server
from tests.servers.stream_server import stream_server

pytestmark = pytest.mark.xdist_group("commands")


def said(done: Done) -> dict[str, str]:
    """What was said of each thing, `ok` or `problem` and the words; several lines of one thing as one."""
    things: dict[str, str] = {}
    for line in done.out.splitlines():
        mark, name, text = line[:9].strip(), line[9:25].strip(), line[25:]
        key = name or list(things)[-1]
        things[key] = f"{things[key]}\n{mark} {text}" if key in things else f"{mark} {text}"
    return things


def problems(done: Done) -> dict[str, str]:
    return {name: text for name, text in said(done).items() if "problem" in re.findall(r"^\w+", text, re.M)}


async def test_before_the_first_start_all_is_well_and_nothing_is_made(tmp_path: Path) -> None:
    done = await guildhall("check", env=environment(tmp_path / "data"))
    assert done.code == 0, done
    assert "the first start makes it" in said(done)["Database"]
    assert not (tmp_path / "data").exists()


async def test_while_the_service_runs_it_is_found_and_all_is_well(service: Serving) -> None:
    done = await guildhall("check", env=service.env)
    assert done.code == 0, done
    things = said(done)
    assert str(service.process.pid) in things["Service"]
    assert "PostgreSQL 18" in things["Database"] and "pgvector" in things["Database"]
    assert "fits together" in things["Content"]
    assert done.err == "" or done.err.startswith("Looking")
    assert not list((service.data_dir / "blobs").rglob("check/*"))


async def test_all_wrong_settings_are_told(tmp_path: Path) -> None:
    env = environment(tmp_path, port="many", email="resend", smpt_host="x")
    done = await guildhall("check", env=env)
    assert done.code == 1
    for name in ("PORT", "RESEND_API_KEY", "EMAIL_FROM", "SMPT_HOST"):
        assert f"GUILDHALL_{name}" in said(done)["Settings"]


async def test_everything_that_does_not_answer_is_told_at_once_with_what_to_do(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "guildhall.toml").write_text("docs = true\n")
    (tmp_path / "data" / "guildhall.toml").chmod(0o644)
    (tmp_path / "data" / "secret").write_text("short")
    (tmp_path / "data" / "secret").chmod(0o600)
    env = environment(
        tmp_path / "data",
        database_url=f"postgresql://nobody:5up3rs3cr3t@127.0.0.1:{free_port()}/none",
        identity="clerk",
        clerk_issuer=nowhere,
        email="smtp",
        email_from="hall@example.org",
        smtp_host="127.0.0.1",
        smtp_port=free_port(),
        blobs_url="file:///proc/blobs",
        chat_url=nowhere,
        chat_key="key",
        chat_secret="a secret of the chat service, long enough",
    )
    done = await guildhall("check", env=env)
    assert done.code == 1
    wrong = problems(done)
    for name, words in (
        ("Data directory", "chmod 600"),
        ("Secret", "damaged"),
        ("Database", "cannot be reached"),
        ("Identity", "CLERK_ISSUER"),
        ("Mail", "SMTP_HOST"),
        ("Files", "BLOBS_URL"),
        ("Chat", "CHAT_URL"),
    ):
        assert words in wrong[name], done
    assert "CLERK_SECRET_KEY" in wrong["Identity"]
    assert "5up3rs3cr3t" not in done.out + done.err
    assert "Traceback" not in done.out + done.err


async def test_services_that_answer_are_told_from_those_that_do_not_let_us_in(tmp_path: Path) -> None:
    resend, store = email_benches.ResendServer(), s3_server.S3Server()
    async with (
        stream_server() as chat,
        clerk_server() as clerk,
        serve_http(resend.handle) as resend_url,
        serve_http(store.handle) as store_url,
    ):
        key = clerk.settings().secret_key
        assert key is not None
        good = {
            "identity": "clerk",
            "clerk_issuer": clerk.issuer,
            "clerk_jwks_url": clerk.jwks_url,
            "clerk_api_url": clerk.settings().api_url,
            "clerk_secret_key": key.reveal(),
            "email": "resend",
            "email_from": email_benches.SENDER,
            "resend_url": resend_url,
            "resend_api_key": email_benches.API_KEY,
            "blobs_url": f"s3://{s3_server.BUCKET}/hall",
            "blobs_endpoint": store_url,
            "blobs_region": "local",
            "blobs_access_key_id": s3_server.ACCESS_KEY,
            "blobs_secret_access_key": "secret",
            "chat_url": chat.base_url,
            "chat_key": chat.api_key,
            "chat_secret": chat.secret,
        }
        done = await guildhall("check", env=environment(tmp_path / "data", **good))
        assert done.code == 0, done
        assert not store.objects
        bad = {
            **good,
            "clerk_secret_key": "sk_test_other",
            "resend_api_key": "re_other",
            "blobs_access_key_id": "other",
            "chat_secret": "another secret of the chat service, long",
        }
        done = await guildhall("check", env=environment(tmp_path / "data", **bad))
    assert done.code == 1
    wrong = problems(done)
    assert set(wrong) == {"Identity", "Mail", "Files", "Chat"}, done
    for name, setting in (
        ("Identity", "CLERK_SECRET_KEY"),
        ("Mail", "RESEND_API_KEY"),
        ("Chat", "CHAT_SECRET"),
    ):
        assert f"GUILDHALL_{setting}" in wrong[name]


async def test_a_database_that_is_not_as_it_must_be_is_told(tmp_path: Path) -> None:
    cluster = clusters.test_cluster()
    url = await clusters.clone_database(cluster)
    env = environment(tmp_path / "data", database_url=clusters.app_url(cluster, url), database_owner_url=url)
    connection = await asyncpg.connect(url)
    try:
        assert "first start" in said(await guildhall("check", env=env))["Tables"]
        migrate(url)
        await connection.execute("INSERT INTO users (id, issuer, display_name) VALUES ('user_a', 'x', 'Ada')")
        await connection.execute(
            """
            WITH s AS (INSERT INTO spaces (id, kind, owner_id, name, slug)
                       VALUES (gen_random_uuid(), 'community', 'user_a', 'Hall', 'hall-') RETURNING id)
            INSERT INTO members (space_id, kind, user_id, role)
            SELECT id, 'community', 'user_a', 'owner' FROM s
            """
        )
        assert (await guildhall("check", env=env)).code == 0
        await connection.execute("UPDATE installation SET sending_held = true")
        await connection.execute("UPDATE spaces SET member_count = 7 WHERE kind = 'community'")
        await connection.execute("ALTER TABLE posts DISABLE TRIGGER posts_are_counted_in")
        done = await guildhall("check", env=env)
        assert done.code == 1
        assert "guildhall release" in problems(done)["Jobs"]
        assert "1 spaces whose number of members is wrong" in problems(done)["Content"]
        assert "1 triggers that are switched off" in problems(done)["Content"]
        await connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = $1", names()[-1])
        assert "guildhall migrate" in problems(await guildhall("check", env=env))["Tables"]
        await connection.execute(
            "UPDATE _yoyo_migration SET migration_id = '9999_later' WHERE migration_id = '0004_service'"
        )
        assert "newer release" in problems(await guildhall("check", env=env))["Tables"]
    finally:
        await connection.close()
        await clusters.drop_database(cluster, url)


async def test_a_stopped_installation_is_looked_at_and_left_stopped(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "data"):
        pass
    done = await guildhall("check", env=environment(tmp_path / "data"))
    assert done.code == 0, done
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()
