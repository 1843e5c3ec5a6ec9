"""What the schema itself refuses, so that no race, script or bug can store it: each tried in plain SQL.

Every attempt is made as the application, in a transaction of its own, and is refused at the latest when that
commits. The names in braces are people and spaces that are made before: `club` and `other` are communities,
`hub` is a hub; ada owns all three, bo and cy are in `club` and in `hub`, eve is only in `other`.
"""

import asyncio
import secrets
from collections.abc import Mapping

import asyncpg
import pytest
import pytest_asyncio

from guildhall.db import Retryable, new_id
from tests.world import World

CLUB = "'{club}', 'community'"

RUN = (
    "INSERT INTO dream_runs (id, space_id, status)"
    " VALUES ('0195e3a0-7c1e-7a42-9d3b-5f0c8e1a2b34', '{hub}', 'running')"
)

REFUSED = {
    # Dreams.
    "two dreams of one hub do not go on at once": (
        RUN
        + "; INSERT INTO dream_runs (id, space_id, status) VALUES (gen_random_uuid(), '{hub}', 'running')",
        "one_dream_at_a_time",
    ),
    "what a dream does belongs to its hub": (
        RUN
        + "; INSERT INTO dream_actions (id, space_id, run_id, position, action_type, operation, automatic,"
        " confidence, similarity, reason) VALUES (gen_random_uuid(), '{other}',"
        " '0195e3a0-7c1e-7a42-9d3b-5f0c8e1a2b34', 1, 'archive', 'archive', true, 1, 1, '')",
        "dream_actions_space_id_run_id_fkey",
    ),
    # A space and its owner.
    "a space names an owner who is a member": (
        "INSERT INTO spaces (id, kind, owner_id, name, slug)"
        " VALUES (gen_random_uuid(), 'community', '{ada}', 'x', '{slug}')",
        "spaces_owner_is_an_owner",
    ),
    "its owner is a member of that very space": (
        "UPDATE spaces SET owner_id = '{eve}' WHERE id = '{club}'",
        "spaces_owner_is_an_owner",
    ),
    "its owner has that rank": (
        "UPDATE spaces SET owner_id = '{bo}' WHERE id = '{club}'",
        "spaces_owner_is_an_owner",
    ),
    "the last owner of a community cannot be demoted": (
        "UPDATE members SET role = 'admin' WHERE space_id = '{club}' AND user_id = '{ada}'",
        "spaces_owner_is_an_owner",
    ),
    "the last owner of a community cannot be removed": (
        "DELETE FROM members WHERE space_id = '{club}' AND user_id = '{ada}'",
        "spaces_owner_is_an_owner",
    ),
    "the owner of a hub cannot be demoted": (
        "UPDATE members SET role = 'admin' WHERE space_id = '{hub}' AND user_id = '{ada}'",
        "spaces_owner_is_an_owner",
    ),
    "the owner of a hub cannot be removed": (
        "DELETE FROM members WHERE space_id = '{hub}' AND user_id = '{ada}'",
        "spaces_owner_is_an_owner",
    ),
    "all members cannot be removed at once": (
        "DELETE FROM members WHERE space_id = '{club}'",
        "spaces_owner_is_an_owner",
    ),
    "the owner a space names is not passed over when two owners swap": (
        "UPDATE members SET role = 'owner' WHERE space_id = '{club}' AND user_id = '{bo}';"
        " UPDATE members SET role = 'admin' WHERE space_id = '{club}' AND user_id = '{ada}'",
        "spaces_owner_is_an_owner",
    ),
    "a hub has one owner": (
        "UPDATE members SET role = 'owner' WHERE space_id = '{hub}' AND user_id = '{bo}'",
        "a_hub_has_one_owner",
    ),
    "an owner is never suspended": (
        "UPDATE members SET status = 'suspended' WHERE space_id = '{club}' AND user_id = '{ada}'",
        "an_owner_is_active",
    ),
    "an owner's account cannot be deleted from under a space": (
        "DELETE FROM users WHERE id = '{ada}'",
        "23503",
    ),
    "a community does not turn into a hub": (
        "UPDATE spaces SET kind = 'hub' WHERE id = '{club}'",
        "members_space_id_kind_fkey",
    ),
    "there are two kinds of space": (
        "UPDATE spaces SET kind = 'club' WHERE id = '{club}'",
        "23514",
    ),
    "two live communities cannot have one slug": (
        "UPDATE spaces SET slug = (SELECT slug FROM spaces WHERE id = '{other}') WHERE id = '{club}'",
        "spaces_by_slug",
    ),
    # Members.
    "a person is a member once": (
        "INSERT INTO members (space_id, kind, user_id, role) VALUES (" + CLUB + ", '{bo}', 'admin')",
        "members_pkey",
    ),
    "a member is somebody": (
        "INSERT INTO members (space_id, kind, user_id, role) VALUES (" + CLUB + ", 'user_none', 'member')",
        "members_user_id_fkey",
    ),
    "a community has no rank of a hub": (
        "UPDATE members SET role = 'contributor' WHERE space_id = '{club}' AND user_id = '{bo}'",
        "members_role_fits_the_space",
    ),
    "a hub has no rank of a community": (
        "UPDATE members SET role = 'moderator' WHERE space_id = '{hub}' AND user_id = '{bo}'",
        "members_role_fits_the_space",
    ),
    "a member of a community is not one as of a hub": (
        "INSERT INTO members (space_id, kind, user_id, role) VALUES ('{club}', 'hub', '{eve}', 'viewer')",
        "members_space_id_kind_fkey",
    ),
    "a membership does not move to another space": (
        "UPDATE members SET space_id = '{other}' WHERE space_id = '{club}' AND user_id = '{cy}'",
        "rows_stay",
    ),
    "a membership does not pass to another person": (
        "UPDATE members SET user_id = '{eve}' WHERE space_id = '{club}' AND user_id = '{cy}'",
        "rows_stay",
    ),
    # Groups.
    "a member of a group is a member of its community": (
        "INSERT INTO group_members (space_id, group_id, user_id, role)"
        " VALUES ('{club}', '{group}', '{eve}', 'member')",
        "group_members_space_id_user_id_fkey",
    ),
    "a member of another community is none of this one's group": (
        "INSERT INTO group_members (space_id, group_id, user_id, role)"
        " VALUES ('{other}', '{group}', '{eve}', 'member')",
        "group_members_space_id_group_id_fkey",
    ),
    "a person is in a group once": (
        "INSERT INTO group_members (space_id, group_id, user_id, role)"
        " VALUES ('{club}', '{group}', '{bo}', 'admin')",
        "group_members_pkey",
    ),
    "a group has two ranks": (
        "UPDATE group_members SET role = 'owner' WHERE group_id = '{group}'",
        "group_members_role_check",
    ),
    "a hub has no groups": (
        "INSERT INTO groups (id, space_id, name, created_by)"
        " VALUES (gen_random_uuid(), '{hub}', 'x', '{ada}')",
        "groups_space_id_kind_fkey",
    ),
    "a group does not move to another community": (
        "UPDATE groups SET space_id = '{other}' WHERE id = '{group}'",
        "rows_stay",
    ),
    "a place in a group does not move to another group": (
        "UPDATE group_members SET group_id = '{second}' WHERE group_id = '{group}'",
        "rows_stay",
    ),
    # Posts.
    "a post in a group is a post of its community": (
        "INSERT INTO posts (id, space_id, group_id, author_id, content)"
        " VALUES (gen_random_uuid(), '{other}', '{group}', '{ada}', 'x')",
        "posts_space_id_group_id_fkey",
    ),
    "a hub has no posts": (
        "INSERT INTO posts (id, space_id, author_id, content)"
        " VALUES (gen_random_uuid(), '{hub}', '{ada}', 'x')",
        "posts_space_id_kind_fkey",
    ),
    "a post does not move to another community": (
        "UPDATE posts SET space_id = '{other}' WHERE id = '{post}'",
        "rows_stay",
    ),
    "a post does not move into a group": (
        "UPDATE posts SET group_id = '{group}' WHERE id = '{post}'",
        "rows_stay",
    ),
    "a post has at most ten files": (
        "UPDATE posts SET attachments = array_fill('x'::text, ARRAY[11]) WHERE id = '{post}'",
        "posts_attachments_check",
    ),
    # Invites.
    "nobody is invited as an owner": (
        "UPDATE invites SET role = 'owner' WHERE id = '{invite}'",
        "rows_stay",
    ),
    "nobody is invited as an owner from the start": (
        "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " VALUES (gen_random_uuid(), " + CLUB + ", 'owner', 'x@example.org', '\\x01', '{ada}')",
        "invites_role_fits_the_space",
    ),
    "nobody is invited into a community by a rank of a hub": (
        "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " VALUES (gen_random_uuid(), " + CLUB + ", 'viewer', 'x@example.org', '\\x01', '{ada}')",
        "invites_role_fits_the_space",
    ),
    "an address has one open invite to a community, however it is spelt": (
        "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " VALUES (gen_random_uuid(), " + CLUB + ", 'member', 'GUEST@example.org', '\\x02', '{ada}')",
        "one_open_community_invite_per_address",
    ),
    "an open invite to a community has an address": (
        "UPDATE invites SET email = NULL WHERE id = '{invite}'",
        "an_open_community_invite_has_an_address",
    ),
    "two invites never have one token": (
        "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " SELECT gen_random_uuid(), space_id, kind, role, 'y@example.org', token_hash, '{ada}' FROM invites"
        " WHERE id = '{invite}'",
        "invites_token_hash_key",
    ),
    "an invite is to a space that there is": (
        "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by)"
        " SELECT id, id, 'community', 'member', 'x@example.org', '\\x01', '{ada}' FROM gen_random_uuid() id",
        "invites_space_id_kind_fkey",
    ),
    "an invite is to one space for good": (
        "UPDATE invites SET space_id = '{other}' WHERE id = '{invite}'",
        "rows_stay",
    ),
    "an invite is accepted by somebody": (
        "UPDATE invites SET accepted_at = now() WHERE id = '{invite}'",
        "accepted_by_somebody",
    ),
    "an invite is not both accepted and revoked": (
        "UPDATE invites SET accepted_at = now(), accepted_by = '{eve}', revoked_at = now()"
        " WHERE id = '{invite}'",
        "accepted_or_revoked",
    ),
    "an invite is accepted by one person for good": (
        "UPDATE invites SET accepted_at = now(), accepted_by = '{eve}' WHERE id = '{used}'",
        "invites_end_once",
    ),
    "an invite that was used does not open again": (
        "UPDATE invites SET accepted_at = NULL, accepted_by = NULL WHERE id = '{used}'",
        "invites_end_once",
    ),
    "an invite that was used is not revoked afterwards": (
        "UPDATE invites SET accepted_at = NULL, accepted_by = NULL, revoked_at = now() WHERE id = '{used}'",
        "invites_end_once",
    ),
    "an invite that was revoked does not open again": (
        "UPDATE invites SET revoked_at = NULL WHERE id = '{revoked}'",
        "invites_end_once",
    ),
    "an invite that was revoked is not accepted": (
        "UPDATE invites SET revoked_at = NULL, accepted_at = now(), accepted_by = '{eve}'"
        " WHERE id = '{revoked}'",
        "invites_end_once",
    ),
    "an invite out of time is not accepted, whatever time the acceptance claims": (
        "UPDATE invites SET accepted_at = now() - interval '9 days', accepted_by = '{eve}'"
        " WHERE id = '{late}'",
        "invites_end_once",
    ),
    # Transfers.
    "a space has one open transfer": (
        "INSERT INTO transfers (id, space_id, initiated_by, target_user_id)"
        " VALUES (gen_random_uuid(), '{club}', '{ada}', '{cy}')",
        "one_open_transfer_per_space",
    ),
    "ownership is offered to a member": (
        "INSERT INTO transfers (id, space_id, initiated_by, target_user_id)"
        " VALUES (gen_random_uuid(), '{hub}', '{ada}', '{eve}')",
        "transfers_space_id_target_user_id_fkey",
    ),
    "ownership is offered by a member": (
        "INSERT INTO transfers (id, space_id, initiated_by, target_user_id)"
        " VALUES (gen_random_uuid(), '{hub}', '{eve}', '{bo}')",
        "transfers_space_id_initiated_by_fkey",
    ),
    "ownership is not offered to oneself": (
        "INSERT INTO transfers (id, space_id, initiated_by, target_user_id)"
        " VALUES (gen_random_uuid(), '{hub}', '{ada}', '{ada}')",
        "not_to_oneself",
    ),
    "a transfer that ended does not open again": (
        "UPDATE transfers SET cancelled_at = NULL WHERE id = '{ended}'",
        "transfers_end_once",
    ),
    "a transfer that was canceled is not accepted": (
        "UPDATE transfers SET cancelled_at = NULL, accepted_at = now() WHERE id = '{ended}'",
        "transfers_end_once",
    ),
    "a transfer is not both accepted and canceled": (
        "UPDATE transfers SET accepted_at = now(), cancelled_at = now() WHERE id = '{offer}'",
        "accepted_or_cancelled",
    ),
    # People.
    "an erased person keeps nothing personal": (
        "UPDATE users SET status = 'erased', erased_at = now() WHERE id = '{eve}'",
        "erased_means_nothing_personal",
    ),
    "a person's id is plain": (
        "INSERT INTO users (id, issuer, display_name) VALUES ('user x', 'https://issuer', 'x')",
        "users_id_check",
    ),
    "an address signs one person in": (
        "INSERT INTO email_logins VALUES ('{slug}', '{ada}'), ('{slug}', '{eve}')",
        "email_logins_pkey",
    ),
    # The service.
    "there is one row of facts about the installation": (
        "INSERT INTO installation (only_one) VALUES (false)",
        "installation_only_one_check",
    ),
    "an idempotency key is kept once": (
        "INSERT INTO idempotency_keys (scope, body_hash, answer)"
        " VALUES ('\\x{mark}', '\\x', '\\x'), ('\\x{mark}', '\\x', '\\x')",
        "idempotency_keys_pkey",
    ),
    "a webhook's delivery is taken once": (
        "INSERT INTO webhook_deliveries (id) VALUES ('{mark}'), ('{mark}')",
        "webhook_deliveries_pkey",
    ),
}


@pytest_asyncio.fixture(scope="module")
async def names(world: World) -> Mapping[str, str]:
    """The people and spaces of the sentences."""
    ada, bo, cy, eve = await world.people("ada", "bo", "cy", "eve")
    club = await world.community(ada, admins=[bo], members=[cy])
    other = await world.community(ada, members=[eve])
    group = (await ada.post("/api/groups", {"communityId": club.id, "name": "Seeds"})).ok(201)["id"]
    second = (await ada.post("/api/groups", {"communityId": club.id, "name": "Tools"})).ok(201)["id"]
    (await ada.post(f"/api/groups/{group}", {"targetUserId": bo.id})).ok(201)
    post = (await ada.post("/api/posts", {"communityId": club.id, "content": "Hello"})).ok(201)["id"]
    ended = (await ada.post(f"{club.url}/ownership-transfer", {"targetUserId": bo.id})).ok(201)["id"]
    (await ada.post(f"{club.url}/ownership-transfer/{ended}/cancel")).ok()
    offer = (await ada.post(f"{club.url}/ownership-transfer", {"targetUserId": bo.id})).ok(201)["id"]
    invites = {}
    for name in ("guest", "used", "revoked", "late"):
        invites[name] = (await ada.post(f"{club.url}/invite", {"email": f"{name}@example.org"})).ok(201)["id"]
    async with world.db.writing() as tx:
        await tx.run(
            "UPDATE invites SET accepted_at = now(), accepted_by = $2 WHERE id = $1::uuid",
            invites["used"],
            cy.id,
        )
        await tx.run("UPDATE invites SET revoked_at = now() WHERE id = $1::uuid", invites["revoked"])
        await tx.run("UPDATE invites SET expires_at = now() WHERE id = $1::uuid", invites["late"])
    hub = await a_hub(world, ada.id, admin=bo.id, viewer=cy.id)
    people = {person.name: person.id for person in (ada, bo, cy, eve)}
    spaces = {"club": club.id, "other": other.id, "hub": hub, "group": group, "second": second, "post": post}
    mark = secrets.token_hex(6)
    return (
        people
        | spaces
        | invites
        | {"invite": invites["guest"], "ended": ended, "offer": offer, "slug": f"slug-{mark}", "mark": mark}
    )


async def a_hub(world: World, owner: str, **members: str) -> str:
    hub = new_id()
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO spaces (id, kind, owner_id, name, slug) VALUES ($1, 'hub', $2, 'Hub', $3)",
            hub,
            owner,
            f"hub-{hub.hex[-12:]}",
        )
        for role, user in {"owner": owner, **members}.items():
            await tx.run(
                "INSERT INTO members (space_id, kind, user_id, role) VALUES ($1, 'hub', $2, $3)",
                hub,
                user,
                role,
            )
    return str(hub)


@pytest.mark.parametrize("sentence", REFUSED)
async def test_the_schema_holds_that(world: World, names: Mapping[str, str], sentence: str) -> None:
    sql, reason = REFUSED[sentence]
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        async with world.db.writing() as tx:
            await tx.connection.execute(sql.format_map(names))
    assert reason in (refused.value.constraint_name, refused.value.sqlstate), refused.value


ALLOWED = {
    "a hub changes hands in one transaction": (
        "UPDATE members SET role = 'admin' WHERE space_id = '{hub}' AND user_id = '{ada}';"
        " UPDATE members SET role = 'owner' WHERE space_id = '{hub}' AND user_id = '{bo}';"
        " UPDATE spaces SET owner_id = '{bo}' WHERE id = '{hub}'"
    ),
    "an owner leaves whose place was taken before": (
        "UPDATE members SET role = 'owner' WHERE space_id = '{other}' AND user_id = '{eve}';"
        " DELETE FROM members WHERE space_id = '{other}' AND user_id = '{ada}';"
        " UPDATE spaces SET owner_id = '{eve}' WHERE id = '{other}'"
    ),
    "an open invite is accepted in time": (
        "UPDATE invites SET accepted_at = now(), accepted_by = '{eve}' WHERE id = '{invite}'"
    ),
    "a dead invite may be forgotten": "DELETE FROM invites WHERE id = '{revoked}'",
    "a community that is deleted frees its slug": (
        "UPDATE spaces SET deleted_at = now() WHERE id = '{club}';"
        " UPDATE spaces SET slug = (SELECT slug FROM spaces WHERE id = '{club}') WHERE id = '{other}'"
    ),
}


class Undone(Exception):
    """Ends a transaction whose constraints were all looked at."""


@pytest.mark.parametrize("sentence", ALLOWED)
async def test_the_schema_allows_that(world: World, names: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(Undone):
        async with world.db.writing() as tx:
            await tx.connection.execute(ALLOWED[sentence].format_map(names))
            await tx.run("SET CONSTRAINTS ALL IMMEDIATE")
            raise Undone


async def test_every_reference_between_rows_of_spaces_names_the_space(world: World) -> None:
    async with world.db.reading() as read:
        crossing = await read.value(
            """
            SELECT array_agg(conrelid::regclass::text || '.' || conname)
              FROM pg_constraint c
              JOIN pg_attribute child ON child.attrelid = c.conrelid AND child.attname = 'space_id'
              JOIN pg_attribute parent ON parent.attrelid = c.confrelid AND parent.attname = 'space_id'
             WHERE contype = 'f' AND NOT EXISTS (
                   SELECT FROM unnest(conkey, confkey) AS pair (child_key, parent_key)
                    WHERE pair = (child.attnum, parent.attnum))
            """
        )
    assert crossing is None


async def test_the_application_is_neither_owner_nor_above_the_rules(world: World) -> None:
    async with world.db.reading() as read:
        above = await read.value("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        owned = await read.value("SELECT count(*) FROM pg_tables WHERE tableowner = current_user")
    assert (above, owned) == (False, 0)
    for statement in (
        "TRUNCATE audit",
        "ALTER TABLE audit ADD x int",
        "UPDATE _yoyo_migration SET migration_id = ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with world.db.single() as tx:
                await tx.connection.execute(statement)


async def test_leaving_leaves_nothing_behind(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, admins=[bo])
    group = (await ada.post("/api/groups", {"communityId": club.id, "name": "Seeds"})).ok(201)["id"]
    (await ada.post(f"/api/groups/{group}", {"targetUserId": bo.id, "role": "admin"})).ok(201)
    (await ada.post(f"{club.url}/ownership-transfer", {"targetUserId": bo.id})).ok(201)
    async with world.db.single() as tx:
        await tx.run("DELETE FROM members WHERE space_id = $1::uuid AND user_id = $2", club.id, bo.id)
    async with world.db.reading() as read:
        left = await read.value(
            "SELECT (SELECT count(*) FROM group_members WHERE user_id = $1)"
            " + (SELECT count(*) FROM transfers WHERE target_user_id = $1)",
            bo.id,
        )
    assert left == 0


async def test_of_a_space_that_is_removed_no_row_stays(world: World) -> None:
    ada, bo = await world.people("ada", "bo")
    club = await world.community(ada, members=[bo])
    group = (await ada.post("/api/groups", {"communityId": club.id, "name": "Seeds"})).ok(201)["id"]
    for where in ({}, {"groupId": group}):
        (await ada.post("/api/posts", {"communityId": club.id, "content": "Hello", **where})).ok(201)
    (await ada.post(f"{club.url}/invite", {"email": "x@example.org"})).ok(201)
    (await ada.post(f"{club.url}/ownership-transfer", {"targetUserId": bo.id})).ok(201)
    async with world.db.writing() as tx:
        await tx.run("DELETE FROM spaces WHERE id = $1::uuid", club.id)
        tables = await tx.value(
            "SELECT array_agg(table_name::text) FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'space_id'"
            # What was done stays known, and the chat service's side goes only once it is gone there.
            "   AND table_name NOT IN ('audit', 'chat_spaces', 'chat_channels')"
        )
        assert {"members", "groups", "group_members", "posts", "invites", "transfers"} <= set(tables)
        for table in tables:
            left = await tx.connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE space_id = $1::uuid", club.id
            )
            assert (table, left) == (table, 0)


@pytest.mark.parametrize(
    "row",
    [
        "INSERT INTO sessions (id, user_id, label, expires_at) VALUES ('sess_{mark}', '{gone}', 'x', now())",
        "INSERT INTO members (space_id, kind, user_id, role) VALUES (" + CLUB + ", '{gone}', 'member')",
        "INSERT INTO uploads (id, user_id, name, filename, content_type, size_bytes, purpose)"
        " VALUES (gen_random_uuid(), '{gone}', '{mark}', 'x', 'image/png', 1, 'avatar')",
        "INSERT INTO exports (id, user_id) VALUES (gen_random_uuid(), '{gone}')",
    ],
    ids=lambda row: row.split()[2],
)
async def test_an_erased_person_gets_nothing_new(world: World, names: Mapping[str, str], row: str) -> None:
    gone = await world.person("gone")
    assert (await gone.delete("/api/users/me")).status == 204
    with pytest.raises(Retryable):
        async with world.db.writing() as tx:
            await tx.connection.execute(row.format_map({**names, "gone": gone.id}))


COUNTERS = """
    SELECT s.member_count = (SELECT count(*) FROM members m WHERE m.space_id = s.id)
       AND s.group_count = (SELECT count(*) FROM groups g WHERE g.space_id = s.id)
       AND s.post_count = (SELECT count(*) FROM posts p WHERE p.space_id = s.id AND p.group_id IS NULL)
       AND NOT EXISTS (
           SELECT FROM groups g WHERE g.space_id = s.id AND (
               g.member_count <> (SELECT count(*) FROM group_members gm WHERE gm.group_id = g.id)
               OR g.post_count <> (SELECT count(*) FROM posts p WHERE p.group_id = g.id)))
      FROM spaces s WHERE s.id = $1::uuid
"""


async def test_counters_follow_the_rows_whatever_changes_them(world: World) -> None:
    people = await world.people("ada", "bo", "cy", "eve", "fay")
    club = await world.community(people[0], members=people[1:3])
    name = {person.name: person.id for person in people} | {"club": club.id}
    for statement in (
        "INSERT INTO groups (id, space_id, name, created_by)"
        " SELECT gen_random_uuid(), '{club}', n::text, '{ada}' FROM generate_series(1, 3) AS n",
        "INSERT INTO group_members (space_id, group_id, user_id, role)"
        " SELECT space_id, g.id, m.user_id, 'member' FROM groups g JOIN members m USING (space_id)"
        " WHERE space_id = '{club}'",
        "INSERT INTO posts (id, space_id, group_id, author_id, content)"
        " SELECT gen_random_uuid(), '{club}', g.id, '{bo}', 'x' FROM generate_series(1, 4),"
        " (SELECT id FROM groups WHERE space_id = '{club}' UNION ALL SELECT NULL) AS g",
        "INSERT INTO members (space_id, kind, user_id, role) VALUES (" + CLUB + ", '{bo}', 'member'),"
        " (" + CLUB + ", '{eve}', 'member') ON CONFLICT DO NOTHING",
        "UPDATE group_members SET role = 'admin' WHERE space_id = '{club}'",
        "DELETE FROM members WHERE space_id = '{club}' AND user_id IN ('{cy}', '{eve}')",
        "DELETE FROM posts WHERE space_id = '{club}' AND id IN"
        " (SELECT id FROM posts WHERE space_id = '{club}' ORDER BY id LIMIT 7)",
        "DELETE FROM groups WHERE space_id = '{club}' AND name = '2'",
        "DELETE FROM group_members WHERE space_id = '{club}' AND user_id = '{bo}'",
    ):
        async with world.db.writing() as tx:
            await tx.connection.execute(statement.format_map(name))
        async with world.db.reading() as read:
            assert await read.value(COUNTERS, club.id), statement

    # Two that meet in one space without taking its lock first, as the application would.
    for one, two in (
        ("groups (id, space_id, name, created_by) VALUES (gen_random_uuid(), '{club}', 'x', '{ada}')",) * 2,
        (
            "members (space_id, kind, user_id, role) VALUES (" + CLUB + ", '{eve}', 'member')",
            "members (space_id, kind, user_id, role) VALUES (" + CLUB + ", '{fay}', 'member')",
        ),
        tuple(
            "group_members (space_id, group_id, user_id, role)"
            f" SELECT space_id, id, '{who}', 'member' FROM groups"
            " WHERE space_id = '{club}' AND name = '1'"
            for who in ("{bo}", "{eve}")
        ),
    ):
        async with world.db.writing() as first:
            await first.connection.execute("INSERT INTO " + one.format_map(name))
            second = asyncio.create_task(commit(world, "INSERT INTO " + two.format_map(name)))
            await until_one_waits(world)
        await second
        async with world.db.reading() as read:
            assert await read.value(COUNTERS, club.id), one


async def commit(world: World, statement: str) -> None:
    async with world.db.writing() as tx:
        await tx.connection.execute(statement)


async def until_one_waits(world: World) -> None:
    """Until some statement in this database waits for a lock that another holds."""
    async with world.db.reading() as read:
        while not await read.value(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid IN"
            " (SELECT pid FROM pg_stat_activity WHERE datname = current_database()))"
        ):
            await asyncio.sleep(0.01)
