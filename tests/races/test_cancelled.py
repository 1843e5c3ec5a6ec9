"""People who hang up in the middle: nobody is answered what somebody else asked for."""

import asyncio
import os
import random
import re
from pathlib import Path

from tests import cluster as clusters
from tests.races.calls import insist
from tests.world import Community, Person, World, open_world, settings_for

REQUESTS = 200_000 if os.environ.get("GUILDHALL_LONG") == "1" else 800
PEOPLE = 8
AT_ONCE = 24


class Asker:
    """Somebody whose every text holds a mark of their own."""

    def __init__(self, person: Person, club: Community, mark: str) -> None:
        self.person = person
        self.club = club
        self.mark = mark

    async def ask(self, chance: random.Random) -> str:
        """Ask for something of one's own, or be refused it, and tell what was answered."""
        person, club, word = self.person, self.club.id, {"content": f"seeds {self.mark}"}
        match chance.randrange(7):
            case 0:
                reply = await person.get("/api/communities")
            case 1:
                reply = await person.get(f"/api/posts?communityId={club}")
            case 2:
                reply = await person.get(f"/api/members/{person.id}/profile")
            case 3:
                reply = await person.get(f"/api/communities/{club}/members")
            case 4:
                reply = await person.get(f"/api/communities/{club}/nothing?{self.mark}")
            case 5:
                reply = await person.patch(f"/api/members/{person.id}/profile", {"bio": self.mark})
            case _:
                head = {"Idempotency-Key": f"{self.mark} {chance.random()}"}
                reply = await person.post("/api/posts", {"communityId": club, **word}, headers=head)
        assert reply.status in (200, 201, 404, 503), reply
        return reply.response.text


async def make(world: World, number: int) -> Asker:
    mark = f"mark{number:03}"
    person = await world.person(mark)
    club = await world.community(person, isPrivate=True, name=f"Club {mark}", description=mark)
    return Asker(person, club, mark)


async def test_of_requests_a_fifth_of_which_is_cancelled_each_is_answered_its_own(
    cluster: clusters.Cluster, template: str, tmp_path: Path
) -> None:
    url = await clusters.clone_database(cluster, template)
    # Few connections, so that what one leaves in them the next would find.
    settings = settings_for(tmp_path, clusters.app_url(cluster, url), url, DATABASE_POOL="3")
    chance = random.Random(20)
    cancelled = answered = 0
    async with open_world(settings) as world:
        askers = [await make(world, number) for number in range(PEOPLE)]

        async def ask_on(turns: int) -> None:
            nonlocal cancelled, answered
            for _ in range(turns):
                asker = chance.choice(askers)
                asking = asyncio.create_task(asker.ask(chance))
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.uniform(0, 0.02))
                    asking.cancel()
                try:
                    said = await asking
                except asyncio.CancelledError:
                    cancelled += 1
                    continue
                answered += 1
                assert set(re.findall(r"mark\d{3}", said)) <= {asker.mark}, said

        await asyncio.gather(*(ask_on(REQUESTS // AT_ONCE) for _ in range(AT_ONCE)))
        assert cancelled > REQUESTS // 20 and answered > REQUESTS // 2
        async with world.db.reading() as read:
            strangers = await read.value(
                "SELECT count(*) FROM posts p JOIN spaces s ON s.id = p.space_id"
                "  JOIN users u ON u.id = p.author_id"
                " WHERE s.owner_id <> p.author_id OR p.content <> 'seeds ' || u.display_name"
                "    OR u.bio <> u.display_name"
            )
        assert strangers == 0
        # Whoever comes after finds all connections in order.
        for asker in askers:
            reply = await insist(lambda person=asker.person: person.get("/api/communities"))
            assert [club["name"] for club in reply.ok()["items"]] == [f"Club {asker.mark}"]
    await clusters.drop_database(cluster, url)
