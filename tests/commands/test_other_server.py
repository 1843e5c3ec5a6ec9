"""The application under another server than ours: `uvicorn --factory guildhall.wiring:application`."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from guildhall.db.migrate import migrate
from tests import cluster as clusters
from tests.commands.serving import environment, free_port, guildhall

pytestmark = pytest.mark.xdist_group("commands")


@asynccontextmanager
async def uvicorn(env: dict[str, str], port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "uvicorn", "--factory", "guildhall.wiring:application"),
        *("--port", str(port), "--log-level", "warning"),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_the_service_runs_under_uvicorn(tmp_path: Path) -> None:
    cluster = clusters.test_cluster()
    url = await clusters.clone_database(cluster)
    port = free_port()
    env = environment(
        tmp_path / "data",
        port=port,
        database_url=clusters.app_url(cluster, url),
        database_owner_url=url,
    )
    try:
        migrate(url)
        token = (await guildhall("token", "--email", "ada@example.org", env=env)).out.strip()
        base = f"http://127.0.0.1:{port}"
        async with uvicorn(env, port) as process, httpx.AsyncClient(base_url=base) as client:
            began = time.monotonic()
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/api/health")).status_code == 200:
                        break
                assert time.monotonic() - began < 30
                await asyncio.sleep(0.05)
            head = {"Authorization": f"Bearer {token}"}
            made = await client.post("/api/communities", json={"name": "Guests"}, headers=head)
            assert made.status_code == 201, made.text
            assert made.headers["x-content-type-options"] == "nosniff"
            assert made.headers["cache-control"] == "no-store"
            listed = await client.get("/api/communities", headers=head)
            assert [item["id"] for item in listed.json()["items"]] == [made.json()["id"]]
            assert (await client.get("/api/communities")).status_code == 401
            large = b'{"name": "' + b"x" * 300_000 + b'"}'
            kind = {**head, "Content-Type": "application/json"}
            assert (await client.post("/api/communities", content=large, headers=kind)).status_code == 413
            process.terminate()
            async with asyncio.timeout(25):
                await process.wait()
    finally:
        await clusters.drop_database(cluster, url)


async def test_without_a_database_of_its_own_another_server_is_told_what_to_set(tmp_path: Path) -> None:
    async with uvicorn(environment(tmp_path / "data"), free_port()) as process:
        async with asyncio.timeout(30):
            _, err = await process.communicate()
    assert process.returncode != 0
    assert b"GUILDHALL_DATABASE_URL is not set" in err
