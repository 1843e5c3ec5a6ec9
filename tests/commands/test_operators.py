"""What an operator does to single people, communities and jobs, while the service runs."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from guildhall.providers.postgres import EmbeddedPostgres
from tests.commands.serving import Serving, environment, guildhall, serving

pytestmark = pytest.mark.xdist_group("commands")


async def call(service: Serving, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
    head = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=service.base_url, headers=head, timeout=30) as client:
        return await client.request(method, path, json=body)


async def run(service: Serving, *arguments: str) -> str:
    done = await guildhall(*arguments, env=service.env)
    assert done.code == 0, done
    return done.out


async def test_a_disabled_person_is_refused_from_the_next_request_on(service: Serving) -> None:
    token = await service.token("eve@example.org")
    assert (await call(service, token, "GET", "/api/communities")).status_code == 200
    user_id = (await run(service, "users", "disable", "Eve@example.org")).split()[2]
    assert (await call(service, token, "GET", "/api/communities")).status_code == 401

    refused = await guildhall("token", "--email", "eve@example.org", env=service.env)
    assert refused.code == 1 and "guildhall users enable eve@example.org" in refused.err

    assert "is open" in await run(service, "users", "enable", user_id)
    assert (await call(service, token, "GET", "/api/communities")).status_code == 401
    again = await service.token("eve@example.org")
    assert (await call(service, again, "GET", "/api/communities")).status_code == 200

    done = await guildhall("users", "disable", "nobody@example.org", env=service.env)
    assert done.code == 1 and "Nobody has the address or id nobody@example.org" in done.err


async def test_a_deleted_community_comes_back_as_it_was(service: Serving) -> None:
    token = await service.token("ada@example.org")
    wanted = {"name": "Weavers \u202e", "slug": "weavers-hall"}
    assert (await call(service, token, "POST", "/api/communities", wanted)).status_code == 400
    made = (await call(service, token, "POST", "/api/communities", {**wanted, "name": "Weavers"})).json()
    path = f"/api/communities/{made['id']}"
    post = {"communityId": made["id"], "content": "Warp and weft"}
    assert (await call(service, token, "POST", "/api/posts", post)).status_code == 201
    assert made["id"] in await run(service, "communities", "list", "WEAV")
    assert made["id"] not in await run(service, "communities", "list", "--deleted")

    assert (await call(service, token, "DELETE", path)).status_code == 204
    assert made["id"] in await run(service, "communities", "list", "--deleted")
    assert "Weavers is back, as weavers-hall." in await run(service, "communities", "restore", "weavers-hall")
    back = (await call(service, token, "GET", path)).json()
    assert {**back, "updatedAt": made["updatedAt"]} == {**made, "updatedAt": made["updatedAt"]}
    feed = (await call(service, token, "GET", f"/api/posts?communityId={made['id']}")).json()
    assert [item["content"] for item in feed["items"]] == ["Warp and weft"]

    assert (await call(service, token, "DELETE", path)).status_code == 204
    other = await call(service, token, "POST", "/api/communities", wanted | {"name": "Weavers"})
    assert other.status_code == 201
    assert "as weavers-hall-" in await run(service, "communities", "restore", made["id"])
    done = await guildhall("communities", "restore", made["id"], env=service.env)
    assert done.code == 1 and "within the last 30 days" in done.err


async def test_what_was_deleted_from_the_backlog_comes_back(service: Serving) -> None:
    item = {"title": "Doors", "type": "feature", "priority": "low", "session": "web"}
    ids = [
        httpx.post(f"{service.base_url}/api/backlog", json=item | {"title": title}).json()["id"]
        for title in ("Doors", "Windows", "Stairs\u2028")
    ]
    for item_id in ids:
        assert httpx.delete(f"{service.base_url}/api/backlog/{item_id}").status_code == 204
    listed = await run(service, "backlog", "list")
    assert all(item_id in listed for item_id in ids)

    done = await guildhall("backlog", "restore", ids[0], ids[0].replace("0", "1"), env=service.env)
    assert done.code == 1 and "Nothing was changed" in done.err
    assert "1 item is back" in await run(service, "backlog", "restore", ids[0])
    assert "are back" in await run(service, "backlog", "restore", "--all")
    titles = [each["title"] for each in httpx.get(f"{service.base_url}/api/backlog").json()["items"]]
    assert {"Doors", "Windows"} <= set(titles)
    assert (await guildhall("backlog", "restore", env=service.env)).code == 1


async def test_a_job_that_was_given_up_is_listed_with_why_and_tried_again(service: Serving) -> None:
    connection = await asyncpg.connect(EmbeddedPostgres(service.data_dir).url("guildhall_owner"))
    try:
        job = await connection.fetchval(
            "INSERT INTO pgqueuer (priority, entrypoint, payload, status)"
            " VALUES (0, 'invite.made', 'x', 'queued') RETURNING id"
        )

        async def rests() -> None:
            async with asyncio.timeout(20):
                while await connection.fetchval("SELECT status FROM pgqueuer WHERE id = $1", job) != "failed":
                    await asyncio.sleep(0.1)

        await rests()
        listed = await run(service, "jobs", "list")
        assert str(job) in listed and "invite.made" in listed and "the job cannot be read" in listed
        assert "jobs list" in (await guildhall("check", env=service.env)).out
        assert "1 job is tried again" in await run(service, "jobs", "retry", str(job))
        await rests()
        await connection.execute("DELETE FROM pgqueuer WHERE id = $1", job)
    finally:
        await connection.close()
    done = await guildhall("jobs", "retry", str(job), env=service.env)
    assert done.code == 1 and str(job) in done.err


async def test_a_rotated_secret_leaves_everybody_signed_in_until_the_operator_ends_it(
    tmp_path: Path, service: Serving
) -> None:
    running = await guildhall("rotate-secret", env=service.env)
    assert running.code == 1 and "already being served" in running.err

    env = environment(tmp_path / "data")
    old = (await guildhall("token", "--email", "ada@example.org", env=env)).out.strip()
    before = (tmp_path / "data" / "secret").read_bytes()
    # As if the rotation had been broken off between its two steps.
    (tmp_path / "data" / "secret.previous").write_bytes(before)
    for code in (0, 1):
        done = await guildhall("rotate-secret", env=env)
        assert done.code == code, done
        assert "rotate-secret --finish" in done.out + done.err
    assert (tmp_path / "data" / "secret.previous").read_bytes() == before
    assert (tmp_path / "data" / "secret").read_bytes() != before
    new = (await guildhall("token", "--email", "ada@example.org", env=env)).out.strip()
    async with serving(tmp_path / "data", workers=2) as hall:
        for token in (old, new) * 4:
            assert (await call(hall, token, "GET", "/api/communities")).status_code == 200

    assert (await guildhall("rotate-secret", "--finish", env=env)).code == 0
    async with serving(tmp_path / "data") as hall:
        assert (await call(hall, old, "GET", "/api/communities")).status_code == 401
        assert (await call(hall, new, "GET", "/api/communities")).status_code == 200


async def test_a_secret_of_the_settings_is_not_touched(tmp_path: Path) -> None:
    env = environment(tmp_path / "data", secret="a secret of the settings, 32 bytes and more")
    done = await guildhall("rotate-secret", env=env)
    assert done.code == 1 and "GUILDHALL_SECRET_PREVIOUS" in done.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "command",
    ["release", "revoke-invites", "rotate-secret", "users disable x", "communities list", "jobs list"],
)
async def test_a_mistyped_folder_does_not_become_an_installation(tmp_path: Path, command: str) -> None:
    done = await guildhall(*command.split(), "--data-dir", str(tmp_path / "dta"), env=environment(tmp_path))
    assert done.code == 1 and "right --data-dir" in done.err, done
    assert not (tmp_path / "dta").exists()
