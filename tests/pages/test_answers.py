"""What pages answer, asked without a browser."""

import re

import pytest

from guildhall.db import new_id
from guildhall.spaces.notices import KINDS
from tests.world import Browser, World

HTML = {"Accept": "text/html"}


async def shown(who: Browser, path: str, status: int = 200) -> str:
    """The page's HTML without the script's words."""
    reply = await who.get(path, headers=HTML)
    assert reply.status == status, reply
    return re.sub(r'data-words="[^"]*"', "", reply.response.text)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_news_is_told_in_a_sentence(world: World, kind: str) -> None:
    ada, bo = await world.people("ada", "bo")
    place = await world.community(ada) if kind.startswith("community_") else await world.hub(ada)
    notice = new_id()
    async with world.db.writing() as tx:
        await tx.run(
            "INSERT INTO notifications (id, audience, space_id, recipient_user_id, kind, bucket, source_kind,"
            " source_id, person_id, payload)"
            " VALUES ($1, 'user', $2::text::uuid, $3, $4, $5, $4, $1::uuid::text, $6, $7::text::jsonb)",
            notice,
            place.id,
            ada.id,
            kind,
            KINDS[kind],
            bo.id,
            '{"role": "admin"}',
        )
    text = await shown(ada, "/inbox")
    assert str(notice) in text or KINDS[kind] == "action"
    assert kind not in text


@pytest.mark.parametrize(
    "path",
    ["/backlog?q=&type=&priority=&session=", "{club}/members?q=&role=", "/backlog?q=&type=bug&priority="],
)
async def test_a_filter_that_is_left_empty_is_no_filter(world: World, path: str) -> None:
    ada = await world.person("ada")
    club = await world.community(ada)
    await shown(ada, path.format(club=f"/c/{club.body['slug']}"))
