"""Owners against owners: whoever comes first, a space is never without one, and a hub never has two."""

import itertools
from collections.abc import Mapping
from functools import partial

import pytest

from tests.races.calls import Call, audited, play, race
from tests.world import Community, Person, World

pytestmark = pytest.mark.xdist_group("races")


def demote(by: Person, club: Community, who: Person) -> Call:
    return partial(by.patch, f"{club.url}/members", {"targetUserId": who.id, "role": "admin"})


def remove(by: Person, club: Community, who: Person) -> Call:
    return partial(by.delete, f"{club.url}/members", {"targetUserId": who.id})


def leave(by: Person, club: Community, _: Person) -> Call:
    return remove(by, club, by)


def step_down(by: Person, club: Community, _: Person) -> Call:
    return demote(by, club, by)


WAYS = {"demotes": demote, "removes": remove, "leaves": leave, "steps down": step_down}
PAIRS = list(itertools.combinations_with_replacement(WAYS, 2))


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=[f"one {a}, the other {b}" for a, b in PAIRS])
async def test_of_two_owners_at_odds_one_stays(racing: World, rounds: int, one: str, two: str) -> None:
    for _ in range(2 * rounds):
        ada, bo = await racing.people("ada", "bo")
        club = await racing.community(ada)
        await racing.join(club.id, bo, "owner")
        replies = await race([WAYS[one](ada, club, bo), WAYS[two](bo, club, ada)])
        done = [reply.status < 300 for reply in replies]
        owners = [name for name, role in (await club.roles()).items() if role == "owner"]
        assert any(done) and owners, replies
        # What was refused had lost its right, or would have left nobody.
        for reply in replies:
            assert reply.status < 300 or reply.error in ("last_owner", "forbidden", "not_found"), reply
        left = {person.id for person in (ada, bo) if person.name in owners}
        assert (await (ada if "ada" in owners else bo).get(club.url)).ok()["ownerId"] in left


async def test_of_many_owners_who_leave_at_once_one_stays(racing: World, rounds: int) -> None:
    for _ in range(rounds):
        people = await racing.people(*(f"owner{n}" for n in range(10)))
        club = await racing.community(people[0])
        for person in people[1:]:
            await racing.join(club.id, person, "owner")
        replies = await race(leave(person, club, person) for person in people)
        assert sorted(reply.status for reply in replies) == [204] * 9 + [409]
        assert list((await club.roles()).values()) == ["owner"]
        assert await audited(racing, club.id, "member.leave") == 9


def handing(surface: str, ada: Person, bo: Person, cy: Person, url: str, offer: str) -> Mapping[str, Call]:
    """What Ada, whose space it is, Bo, to whom it is offered, and nobody else can do about it."""
    transfer = f"{url}/ownership-transfer/{offer}"
    common: dict[str, Call] = {
        "accept": partial(bo.post, f"{transfer}/accept", {}),
        "decline": partial(bo.post, f"{transfer}/cancel", {}),
        "cancel": partial(ada.post, f"{transfer}/cancel", {}),
        "delete": partial(ada.delete, url),
    }
    if surface == "/v1":
        return {
            **common,
            "second offer": partial(ada.post, f"{url}/ownership-transfer", {"target_user_id": cy.id}),
            "leave": partial(bo.post, f"{url}/leave", {}),
            "remove": partial(ada.delete, f"{url}/members/{bo.id}"),
            "re-role": partial(ada.patch, f"{url}/members/{bo.id}", {"role": "contributor"}),
        }
    return {
        **common,
        "second offer": partial(ada.post, f"{url}/ownership-transfer", {"targetUserId": cy.id}),
        "leave": partial(bo.delete, f"{url}/members", {"targetUserId": bo.id}),
        "remove": partial(ada.delete, f"{url}/members", {"targetUserId": bo.id}),
        "re-role": partial(ada.patch, f"{url}/members", {"targetUserId": bo.id, "role": "moderator"}),
    }


@pytest.mark.parametrize("surface", ["/api", "/v1"])
@pytest.mark.parametrize(
    "against", ["accept", "decline", "cancel", "second offer", "leave", "remove", "re-role", "delete"]
)
async def test_ownership_is_handed_over_wholly_or_not_at_all(
    racing: World, many: int, surface: str, against: str
) -> None:
    async def one(turn: int) -> None:
        ada, bo, cy = await racing.people("ada", "bo", "cy")
        if surface == "/api":
            space = await racing.community(ada, members=[bo, cy])
            body = {"targetUserId": bo.id}
        else:
            space = await racing.hub(ada, viewers=[bo, cy])
            body = {"target_user_id": bo.id}
        offered = (await ada.post(f"{space.url}/ownership-transfer", body)).json
        calls = handing(surface, ada, bo, cy, space.url, offered.get("data", offered)["id"])
        wanted = [calls["accept"], calls[against]]
        replies = await race(wanted if turn % 2 else wanted[::-1])
        accepted, other = replies if turn % 2 else replies[::-1]
        roles = await space.roles()
        roles.pop("cy", None)
        if against == "accept":
            assert sorted(reply.status for reply in replies) == [200, 409]
            assert roles == {"bo": "owner", "ada": "admin"}
        elif accepted.status == 200:
            # Whatever else was tried came after, and nothing of it is lawful then; another role for Bo may
            # have come before and been no hindrance.
            assert roles == {"bo": "owner", "ada": "admin"}
            assert other.status >= 400 or against == "re-role", other
        else:
            assert against not in ("second offer", "re-role"), accepted
            assert accepted.status in (403, 404, 410)
            assert other.status < 300
            # A hub that was deleted is gone at once, a community is kept for a while.
            left = {} if (surface, against) == ("/v1", "delete") else {"ada": "owner"}
            assert roles.items() >= left.items() and "owner" not in set(roles.values()) - set(left.values())
        assert await audited(racing, space.id, "transfer.accept") == (
            accepted.status == 200 or against == "accept"
        )

    await play(many, one)


@pytest.mark.parametrize("surface", ["/api", "/v1"])
async def test_one_offer_at_a_time_is_open(racing: World, rounds: int, surface: str) -> None:
    for _ in range(rounds):
        ada, *others = await racing.people("ada", *(f"member{n}" for n in range(20)))
        if surface == "/api":
            space, target = await racing.community(ada, members=others), "targetUserId"
        else:
            space, target = await racing.hub(ada, viewers=others), "target_user_id"
        replies = await race(
            partial(ada.post, f"{space.url}/ownership-transfer", {target: other.id}) for other in others
        )
        assert sorted(reply.status for reply in replies) == [201] + [409] * 19
        assert {reply.error for reply in replies} == {None, "transfer_exists"}
