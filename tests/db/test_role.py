"""The application may change rows and no tables, also where the settings know no role but the owner."""

from pathlib import Path

import asyncpg
import pytest

from guildhall.db import owning
from guildhall.settings import read_settings
from guildhall.wiring import open_house
from guildhall.worker.driver import open_driver
from tests import cluster as clusters


async def test_with_one_address_the_application_still_does_not_own_its_tables(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    url = await clusters.clone_database(cluster, template)
    given = {"DATA_DIR": str(tmp_path), "DATABASE_URL": url, "DATABASE_READ_URL": url}
    try:
        async with open_house(read_settings({}, given)) as house:
            async with house.db.reading() as read:
                assert await read.value("SELECT current_user") == "guildhall_app"
            # A job that builds an index is the owner for as long as that takes.
            async with owning(house.work.owner_url) as owner:
                assert await owner.value(
                    "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class"
                    " WHERE oid = 'posts'::regclass"
                )
            async with house.db.single() as tx:
                await tx.run("UPDATE installation SET sending_held = false")
            for refused in (
                "DROP TABLE posts",
                "ALTER TABLE posts DISABLE TRIGGER ALL",
                "CREATE TABLE mine ()",
            ):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with house.db.writing() as tx:
                        await tx.connection.execute(refused)
            driver = await open_driver(house.database_url)
            assert (await driver.fetch("SELECT current_user::text AS name"))[0]["name"] == "guildhall_app"
            await driver.aclose()
    finally:
        await clusters.drop_database(cluster, url)
