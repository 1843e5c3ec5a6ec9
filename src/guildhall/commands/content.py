"""What an operator brings back: communities and items of the backlog, for 30 days after they were deleted."""

import asyncio
from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from guildhall.commands import DataDir, Problem, current_database, operating
from guildhall.commands.tables import clean, print_table
from guildhall.errors import NotFound
from guildhall.settings import Settings

Words = Annotated[str | None, Parameter(help="Only those whose name, slug or id has this in it.")]
Deleted = Annotated[bool, Parameter(negative="", help="Those that were deleted and can be restored.")]
Limit = Annotated[int, Parameter(help="How many at most.")]

communities = App(name="communities", help="List communities, or bring a deleted one back.")
backlog = App(name="backlog", help="List what was deleted from the backlog, or bring it back.")


@communities.command(name="list")
def list_communities(
    words: Words = None, /, *, deleted: Deleted = False, limit: Limit = 100, data_dir: DataDir = None
) -> None:
    """List communities, the last active first; or those that can be brought back."""
    with current_database(data_dir) as settings:
        asyncio.run(_list_communities(settings, words, deleted, limit))


async def _list_communities(settings: Settings, words: str | None, deleted: bool, limit: int) -> None:
    from guildhall.communities.operators import list_communities

    async with operating(settings) as db, db.reading() as read:
        found = await list_communities(read, words=words, deleted=deleted, limit=limit)
    print_table(
        ("ID", "SLUG", "NAME", "OWNER", "MEMBERS", "DELETED" if deleted else "LAST ACTIVE"),
        [(c.id, c.slug, c.name, c.owner_id, c.member_count, c.at[:16]) for c in found],
        none="None can be restored." if deleted else "There are none.",
    )


@communities.command(name="restore")
def restore_community(
    community: Annotated[str, Parameter(help="Its id or its slug.")], /, *, data_dir: DataDir = None
) -> None:
    """Bring a deleted community back with its members, groups and posts."""
    with current_database(data_dir) as settings:
        asyncio.run(_restore_community(settings, community))


async def _restore_community(settings: Settings, wanted: str) -> None:
    from guildhall.communities.operators import restore_community

    try:
        async with operating(settings) as db, db.writing() as tx:
            restored = await restore_community(tx, wanted)
    except NotFound as error:
        raise Problem(error.message) from None
    print(f"{clean(restored.name)} is back, as {restored.slug}.")


@backlog.command(name="list")
def list_backlog(*, limit: Limit = 100, data_dir: DataDir = None) -> None:
    """List what was deleted within the last 30 days, the last deleted first."""
    with current_database(data_dir) as settings:
        asyncio.run(_list_backlog(settings, limit))


async def _list_backlog(settings: Settings, limit: int) -> None:
    from guildhall.backlog import list_deleted

    async with operating(settings) as db, db.reading() as read:
        found = await list_deleted(read, limit)
    print_table(
        ("ID", "TYPE", "STATUS", "TITLE", "DELETED"),
        [(item.id, item.type, item.status, item.title, item.deleted_at[:16]) for item in found],
        none="None can be restored.",
    )


@backlog.command(name="restore")
def restore_backlog(
    *items: Annotated[str, Parameter(help="Their ids.")],
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="Bring back all that were deleted.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Bring deleted items of the backlog back."""
    ids: list[UUID] = []
    for item in items:
        try:
            ids.append(UUID(item))
        except ValueError:
            raise Problem(f"{item} is not the id of an item. See: backlog list") from None
    if bool(ids) == everything:
        raise Problem("Say which items, by their ids, or --all.")
    with current_database(data_dir) as settings:
        asyncio.run(_restore_backlog(settings, ids))


async def _restore_backlog(settings: Settings, ids: list[UUID]) -> None:
    from guildhall.backlog import list_deleted, restore_item

    async with operating(settings) as db, db.writing() as tx:
        wanted = ids or [item.id for item in await list_deleted(tx, None)]
        missing = [str(item) for item in wanted if not await restore_item(tx, item)]
        if missing:
            raise Problem(f"Not deleted within the last 30 days: {', '.join(missing)}. Nothing was changed.")
    print(f"{len(wanted)} {'item is' if len(wanted) == 1 else 'items are'} back.")
