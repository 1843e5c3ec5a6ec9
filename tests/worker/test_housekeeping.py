"""What is kept goes when its time is over, and not before."""

from uuid import UUID

from guildhall.db import new_id
from guildhall.outbox import Job, put
from guildhall.spaces.jobs import BlobUnused, DeparturesDue, FilesDue
from guildhall.worker.housekeeping import BlobSweepDue, HousekeepingDue
from tests.worker.benches import Hall
from tests.worker.test_channels import make_group, many_members

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e5274de80000000049454e44ae426082"
)


async def run(hall: Hall, *jobs: Job) -> None:
    async with hall.world.db.single() as tx:
        await put(tx, *jobs)
    await hall.world.drain()


async def store(hall: Hall, user: str, *, finished: bool = True) -> str:
    name = f"{new_id()}.png"

    async def chunks():
        yield PNG

    await hall.world.house.service.blobs.put(name, chunks(), "image/png", 10_000)
    await hall.run(
        "INSERT INTO uploads (id, user_id, name, filename, content_type, size_bytes, purpose, stored_at)"
        " VALUES ($1, $2, $3, 'a.png', 'image/png', 10, 'logo', CASE WHEN $4 THEN now() END)",
        new_id(),
        user,
        name,
        finished,
    )
    return name


async def test_each_kind_of_row_is_kept_as_long_as_promised(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    # A row just within its time and one just beyond, of each kind.
    for age, keep in (("23 hours", True), ("25 hours", False)):
        await hall.run(
            "INSERT INTO idempotency_keys (scope, body_hash, answer, created_at)"
            " VALUES (decode(md5($1), 'hex'), '', '', now() - $1::text::interval)",
            age,
        )
        await hall.run(
            "INSERT INTO rate_buckets VALUES (decode(md5($1), 'hex'), 1, now() - $1::text::interval)", age
        )
        await hall.run(
            "INSERT INTO sign_in_codes (id, email_key, email, code_hash, expires_at)"
            " VALUES (gen_random_uuid(), $1, $1, '', now() + interval '24 hours' - $1::text::interval)",
            age,
        )
        days = 2 if keep else 0
        await hall.run(
            "INSERT INTO webhook_deliveries VALUES ($1, now() - make_interval(days => 8 - $2))",
            age,
            days,
        )
        await hall.run(
            "INSERT INTO audit (action, at) VALUES ($1, now() - make_interval(days => 366 - $2))",
            age,
            days,
        )
        await hall.run(
            "INSERT INTO sessions (id, user_id, label, expires_at, revoked_at)"
            " VALUES ($1, $2, 'old', now() + interval '1 day', now() - make_interval(days => 31 - $3))",
            age,
            ada.id,
            days,
        )
        await hall.run(
            "INSERT INTO backlog_items (id, title, type, priority, session, deleted_at)"
            " VALUES (gen_random_uuid(), $1, 'bug', 'low', 'api', now() - make_interval(days => 31 - $2))",
            age,
            days,
        )
        await hall.run(
            "INSERT INTO invites (id, space_id, kind, role, email, token_hash, invited_by, expires_at)"
            " SELECT gen_random_uuid(), id, 'community', 'member', $1 || '@example.org',"
            " convert_to($1, 'UTF8'), owner_id, now() - make_interval(days => 91 - $2) FROM spaces"
            " WHERE kind = 'community'",
            age,
            days,
        )
        await hall.run(
            "INSERT INTO hub_slugs (slug, space_id, reserved_until)"
            " SELECT $1, id, now() + make_interval(days => $2 - 1) FROM spaces WHERE is_personal LIMIT 1",
            age,
            days,
        )
        await hall.run(
            "INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, created)"
            " VALUES (0, 'successful', $1, 0, now() - make_interval(days => 8 - $2))",
            age,
            days,
        )
    await run(hall, HousekeepingDue())

    for table, column in (
        ("idempotency_keys", "NULL"),
        ("rate_buckets", "NULL"),
        ("sign_in_codes", "email_key"),
        ("webhook_deliveries", "id"),
        ("backlog_items", "title"),
        ("invites", "convert_from(token_hash, 'UTF8')"),
    ):
        count = await hall.value(f"SELECT count(*) FROM {table}")
        assert count == 1, table
        if column != "NULL":
            assert await hall.value(f"SELECT {column} FROM {table}") == "23 hours", table
    assert await hall.value("SELECT count(*) FROM sessions WHERE label = 'old'") == 1
    assert await hall.value("SELECT count(*) FROM sessions") == 2
    assert await hall.value(
        "SELECT string_agg(slug, ' ') FROM hub_slugs WHERE reserved_until > '-infinity'"
    ) == ("23 hours")
    assert await hall.value("SELECT count(*) FROM audit WHERE action LIKE '% hours'") == 1
    assert await hall.value("SELECT count(*) FROM pgqueuer_log WHERE entrypoint LIKE '% hours'") == 1
    assert await hall.value("SELECT count(*) FROM spaces WHERE id = $1::uuid", community.id) == 1


async def test_a_community_deleted_thirty_days_ago_is_gone_with_all_that_hung_from_it(hall: Hall) -> None:
    ada, bo = await hall.world.people("Ada", "Bo")
    service = hall.world.house.service
    community = await hall.world.community(ada, members=[bo])
    spared = await hall.world.community(ada)
    await many_members(hall, community, 700)
    await make_group(hall, community, "Tools", bo)
    logo, shared = await store(hall, ada.id), await store(hall, ada.id)
    urls = {name: f"{service.public_url}/blobs/{name}" for name in (logo, shared)}
    await hall.run("UPDATE spaces SET logo_url = $2 WHERE id = $1::uuid", community.id, urls[logo])
    await hall.run("UPDATE spaces SET logo_url = $2 WHERE id = $1::uuid", spared.id, urls[shared])
    await hall.run(
        "INSERT INTO posts (id, space_id, author_id, content, attachments)"
        " SELECT gen_random_uuid(), $1::uuid, $2, 'x', ARRAY[$3] FROM generate_series(1, 1200)",
        community.id,
        ada.id,
        urls[shared],
    )
    (await ada.delete(community.url)).ok()
    await hall.run(
        "UPDATE spaces SET deleted_at = now() - interval '29 days' WHERE id = $1::uuid", community.id
    )
    await run(hall, DeparturesDue())
    assert await hall.value("SELECT count(*) FROM posts") == 1200

    await hall.run(
        "UPDATE spaces SET deleted_at = now() - interval '31 days' WHERE id = $1::uuid", community.id
    )
    await run(hall, DeparturesDue())

    for table in ("posts", "groups", "group_members"):
        assert await hall.value(f"SELECT count(*) FROM {table}") == 0, table
    assert await hall.value("SELECT count(*) FROM members WHERE kind = 'community'") == 1
    assert await hall.value("SELECT id::text FROM spaces WHERE kind = 'community'") == spared.id
    assert hall.there() == await hall.entitled()
    assert not await service.blobs.exists(logo)
    assert await service.blobs.exists(shared)
    assert await hall.value("SELECT name FROM uploads") == shared


async def test_uploads_never_finished_and_old_exports_go_with_their_files(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    blobs = hall.world.house.service.blobs
    abandoned, fresh, done = [
        await store(hall, ada.id, finished=finished) for finished in (False, False, True)
    ]
    await hall.run("UPDATE uploads SET created_at = now() - interval '25 hours' WHERE name <> $1", fresh)
    exported = await store(hall, ada.id)
    await hall.run("DELETE FROM uploads WHERE name = $1", exported)
    await hall.run(
        "INSERT INTO exports (id, user_id, requested_at, ready_at, blob)"
        " VALUES (gen_random_uuid(), $1, now() - interval '73 hours', now(), $2)",
        ada.id,
        exported,
    )
    await run(hall, DeparturesDue(), BlobSweepDue())

    assert [await blobs.exists(name) for name in (abandoned, fresh, done, exported)] == [
        False,
        True,
        True,
        False,
    ]
    assert await hall.value("SELECT count(*) FROM uploads") == 2
    assert await hall.value("SELECT count(*) FROM exports") == 0


async def test_a_file_that_something_names_still_is_not_deleted(hall: Hall) -> None:
    ada = await hall.world.person("Ada")
    service = hall.world.house.service
    name = await store(hall, ada.id)
    await hall.run(
        "UPDATE users SET avatar_url = $2 WHERE id = $1", ada.id, f"{service.public_url}/blobs/{name}"
    )
    await run(hall, BlobUnused(name=name))
    assert await service.blobs.exists(name)

    await hall.run("UPDATE users SET avatar_url = NULL")
    await run(hall, BlobUnused(name=name))
    assert not await service.blobs.exists(name)
    assert UUID(name.removesuffix(".png"))


async def test_a_picture_that_another_replaced_goes_a_day_after_it_came_as_one_never_used(
    hall: Hall,
) -> None:
    ada = await hall.world.person("Ada")
    community = await hall.world.community(ada)
    service = hall.world.house.service
    avatar, logo, cover, kept, _, fresh = names = [await store(hall, ada.id) for _ in range(6)]
    url = {name: f"{service.public_url}/blobs/{name}" for name in names}
    profile = f"/api/members/{ada.id}/profile"
    (await ada.patch(profile, {"avatarUrl": url[avatar]})).ok()
    (await ada.patch(community.url, {"logoUrl": url[logo], "coverImageUrl": url[cover]})).ok()
    (await ada.patch(profile, {"avatarUrl": url[kept]})).ok()
    (await ada.patch(community.url, {"logoUrl": url[kept], "coverImageUrl": None})).ok()
    await hall.world.drain()
    # A backup that is being made may know of them still.
    assert all([await service.blobs.exists(name) for name in names])

    await hall.run("UPDATE uploads SET created_at = now() - interval '25 hours' WHERE name <> $1", fresh)
    await run(hall, FilesDue())
    assert [name for name in names if await service.blobs.exists(name)] == [kept, fresh]
    assert await hall.value("SELECT count(*) FROM uploads") == 2
