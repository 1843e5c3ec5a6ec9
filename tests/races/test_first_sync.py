"""Somebody new, whose client syncs many times at once."""

from pathlib import Path

from tests import cluster as clusters
from tests.races.pair import at_once, two_processes
from tests.servers.clerk_server import clerk_server
from tests.world import ORIGIN, Browser, Reply


async def test_a_hundred_first_syncs_make_one_person_with_one_hub(
    cluster: clusters.Cluster, database: str, tmp_path: Path
) -> None:
    async with clerk_server() as clerk:
        user = clerk.put_user("user_racer", email="racer@example.org", first_name="Ada")
        settings = {
            "IDENTITY": "clerk",
            "CLERK_ISSUER": clerk.issuer,
            "CLERK_SECRET_KEY": clerk.secret_key,
            "CLERK_API_URL": clerk.url + "/v1",
        }
        app_url = clusters.app_url(cluster, database)
        async with two_processes(tmp_path, app_url, database, **settings) as world:
            racer = Browser(world, clerk.token(user["id"], azp=ORIGIN))

            async def sync() -> Reply:
                # Where a hundred profiles take too long to read, some are told to come again.
                while (reply := await racer.post("/api/users/sync")).status == 503:
                    pass
                return reply

            replies = await at_once(sync() for _ in range(100))

            assert sorted(reply.status for reply in replies) == [200] * 99 + [201]
            assert {reply.json["email"] for reply in replies} == {"racer@example.org"}
            async with world.db.reading() as read:
                made = await read.value("SELECT count(*) FROM users WHERE email_key = 'racer@example.org'")
                hubs = await read.value(
                    "SELECT count(*) FROM spaces WHERE owner_id = 'user_racer' AND is_personal"
                )
            assert (made, hubs) == (1, 1)
