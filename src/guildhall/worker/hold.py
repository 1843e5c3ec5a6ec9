"""Holding everything that leaves the house: after a restore nothing is sent until the operator says so."""

from guildhall.db import Db


async def is_held(db: Db) -> bool:
    async with db.single() as tx:
        return bool(await tx.value("SELECT sending_held FROM installation"))


async def hold_sending(db: Db) -> None:
    """Workers claim nothing more, within seconds; what they have begun they finish."""
    async with db.single() as tx:
        await tx.run("UPDATE installation SET sending_held = true")


async def release_sending(db: Db) -> None:
    async with db.single() as tx:
        await tx.run("UPDATE installation SET sending_held = false")
