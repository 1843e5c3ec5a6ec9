"""Hubs in which everything holds a word of its own, and who may hear which of these words at what moment.

A right is known from the outside alone: it may have begun as soon as it was asked for, and it has ended once
its end was confirmed. In between nothing can be said.
"""

import math
import secrets
import time
from collections.abc import Iterable
from typing import Any

from tests.races.calls import insist
from tests.v1.test_memories import at
from tests.v1.test_memory_files import push_file, send
from tests.world import Browser, Hub, Person, World

NEVER = 0.0
STILL = math.inf


def new_word() -> str:
    return f"canary{secrets.token_hex(5)}"


class Secret:
    """Words and ids that only those hear who are in one of the hubs where they are, and `guests`.

    `homes` says since when they are not there any more.
    """

    def __init__(self, den: "Den", *words: str) -> None:
        self.words = set(words)
        self.homes: dict[Den, float] = {den: STILL}
        self.guests: set[str] = set()


class Den:
    """A hub. `out` says since when people are not in it; who is in, or may be, is STILL there.

    `text` is in all of its content, `name` in what it is called, and `plate` is how it is addressed.
    """

    def __init__(self, hub: Hub, keeper: Person, name: str) -> None:
        self.hub = hub
        self.owner = keeper
        self.word = new_word()
        self.out: dict[str, float] = {keeper.id: STILL}
        self.text = Secret(self, self.word)
        self.name = Secret(self, name)
        self.plate = Secret(self, hub.id, hub.body["slug"])
        self.memories: list[str] = []
        self.topics: list[str] = []
        self.runs: list[str] = []
        self.file = ("", "")

    @property
    def known(self) -> list[str]:
        """Its members, or who may just be one."""
        return [user for user, since in self.out.items() if since == STILL]

    def note(self, *ids: str) -> None:
        self.text.words.update(ids)


class Holder:
    """A credential of somebody, and since when it is worth nothing; `only` is the one hub that it is for."""

    def __init__(self, person: Person, browser: Browser, name: str, only: Den | None = None) -> None:
        self.person = person
        self.browser = browser
        self.name = name
        self.only = only
        self.key = ""
        self.dead = STILL
        self.views: list[str] = []

    def shut_out(self, secret: Secret) -> float:
        """Since when nothing of it may be told to this credential, without a break; STILL where it may."""
        if self.dead != STILL:
            return self.dead
        if self.only is None and self.person.id in secret.guests:
            return STILL
        return max(
            NEVER if self.only not in (None, den) else min(den.out.get(self.person.id, NEVER), gone)
            for den, gone in secret.homes.items()
        )


class Watch:
    """All that is secret, and what was told to whom."""

    def __init__(self) -> None:
        self.secrets: list[Secret] = []
        self.leaks: list[str] = []
        self.heard: dict[str, int] = {}
        self.kept: dict[str, int] = {}

    def judge(self, holder: Holder, what: str, since: float, said: str, asked: str) -> None:
        """`said` was told because of something that began at `since`; what was `asked` is no secret."""
        for secret in self.secrets:
            told = [word for word in secret.words if word in said and word not in asked]
            if not told:
                continue
            if (ended := holder.shut_out(secret)) <= since:
                late = "never in" if ended == NEVER else f"out for {since - ended:.3f} s"
                self.leaks.append(f"{what} told {holder.name} ({late}) {told}: {said[:2000]}")
            else:
                self.heard[what] = self.heard.get(what, 0) + 1
        self.kept[what] = self.kept.get(what, 0) + 1


async def furnish(world: World, watch: Watch, keeper: Person) -> Den:
    """A hub with a bit of everything, all of it with the word."""
    name = new_word()
    hub = await world.hub(keeper, name=f"Den {name}")
    den = Den(hub, keeper, name)
    watch.secrets += [den.text, den.name, den.plate]
    for n, more in enumerate(contents(den.word)):
        reply = await insist(lambda more=more: keeper.post("/v1/memories", more, headers=at(hub)))
        den.memories.append(reply.data(201)["id"])
        if n == 0:
            changed = {"content": f"{more['content']} Changed."}
            (await keeper.patch(f"/v1/memories/{den.memories[0]}", changed)).data(200)
    for n in range(2):
        topic = {"name": f"Plums {n} {den.word}", "description": f"About {den.word}", "hub_id": hub.id}
        den.topics.append((await keeper.post("/v1/topics", topic)).data(201)["id"])
    put = {"memory_id": den.memories[0]}
    (await keeper.post(f"/v1/topics/{den.topics[0]}/memories", put, headers=at(hub))).ok(201)
    (await keeper.post(f"/v1/topics/{den.topics[1]}/archive", {})).data(200)
    key = await send(keeper, f"Plums in a file {den.word}".encode(), "text/plain", f"{den.word}.txt")
    filed = (await push_file(keeper, key, hub)).data(201)
    den.file = (filed["id"], filed["attachments"][0]["id"])
    den.note(*den.memories, *den.topics, *den.file)
    return den


def contents(word: str) -> Iterable[dict[str, Any]]:
    """Memories that dreams find something to do with: copies, one that says otherwise, and a topic."""
    yield {
        "content": f"Plums ripen in August, says {word}.",
        "title": f"Plums {word}",
        "hint": f"Asked by {word}",
        "tags": [word, "plums"],
        "source_path": f"/home/{word}/plums.md",
        "project_context": {"repo": word},
        "hub_reason": f"For {word}",
    }
    for n in range(2):
        said = {"thread_id": f"talk-{word}", "speaker": f"Speaker {word}"}
        yield {"content": f"Plums are picked by hand, number {n} of {word}.", **said}
    water = f"Water the plums of {word} early in the morning before the sun gets hot, and never at noon."
    yield {"content": water}
    yield {"content": water.replace("early", "early,") + " "}
    for hour in (18, 20):
        yield {"content": f"The greenhouse door of {word} closes at {hour}:00 on weekdays in summer."}
    for text in ("wants turning every week", "is turned with a fork", "gets no meat"):
        yield {"content": f"Compost of {word} {text}."}


def now() -> float:
    """As the service has it in its events."""
    return time.time()
