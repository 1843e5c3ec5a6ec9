"""`guildhall eval`: questions with known answers, put to any server through its public API.

The file is JSON: `{"conversations": [{"id", "turns": [{"id", "text", "speaker"?, "date"?, "thread"?}],
"questions": [{"question", "gold": [turn ids], "category"?}]}]}`. Each conversation is pushed into a hub of
its own, which is deleted at the end. `thread` parts a conversation into sittings; without it, it is one.
"""

import asyncio
import math
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from cyclopts import Parameter

from guildhall.commands import Problem
from guildhall.commands.progress import Say, telling

AT_ONCE = 4
DEPTH = 10
# Vectors are made once a minute, some hundred a second.
VECTORS_S = 600.0
LOOK_AGAIN_S = 2.0
KEY = "GUILDHALL_KEY"


class Turn(msgspec.Struct, frozen=True):
    """`date` is an ISO 8601 day or time; without a zone, UTC is meant."""

    id: str
    text: str
    speaker: str = ""
    date: str = ""
    thread: str = ""


class Question(msgspec.Struct, frozen=True):
    """What `gold` names that is no turn is passed over, and a question without any is left out. `category`
    parts the figures."""

    question: str
    gold: list[str] = []
    category: str | int = ""


class Conversation(msgspec.Struct, frozen=True):
    id: str
    turns: list[Turn]
    questions: list[Question]


class Trial(msgspec.Struct, frozen=True):
    conversations: list[Conversation]


class Scores(msgspec.Struct, frozen=True):
    """Of one question: whether any and all of what is wanted is among the first five, how much of it among
    the first ten, and how high up."""

    any_5: float
    all_5: float
    recall_10: float
    ndcg_10: float


NAMES = {"any_5": "any@5", "all_5": "all@5", "recall_10": "recall@10", "ndcg_10": "nDCG@10"}


def score(found: Sequence[str], gold: set[str]) -> Scores:
    """How good the order is in which memories were found, of which those in `gold` are wanted."""
    first = set(found[:5])
    hits = [id in gold for id in found[:DEPTH]]
    gained = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
    best = sum(1 / math.log2(place + 2) for place in range(min(len(gold), DEPTH)))
    return Scores(
        float(bool(first & gold)), float(gold <= first), sum(hits) / len(gold), gained / best if best else 0.0
    )


def summary(scores: Sequence[Scores]) -> list[str]:
    """The mean of each measure and where it lies with 95 % certainty, one to a line."""
    return [
        f"{name:<10} {mean:.3f}" + ("" if len(scores) < 2 else f" ± {margin:.3f}")
        for name, (mean, margin) in _means(scores).items()
    ]


def _means(scores: Sequence[Scores]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for field, name in NAMES.items():
        values = [getattr(each, field) for each in scores]
        mean = sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        found[name] = (mean, 1.96 * math.sqrt(spread / len(values)))
    return found


def by_category(answers: Sequence[tuple[Question, Scores]]) -> list[str]:
    """The same for each category, a line each; none where there are no categories."""
    parts: dict[str, list[Scores]] = {}
    for question, scores in answers:
        parts.setdefault(str(question.category) or "none", []).append(scores)
    if len(parts) < 2:
        return []
    wide = max(len("category"), *map(len, parts))
    lines = [f"{'category':<{wide}}  questions  " + "  ".join(NAMES.values())]
    for category, scores in sorted(parts.items()):
        means = [f"{mean:<{len(name)}.3f}" for name, (mean, _) in _means(scores).items()]
        lines.append(f"{category:<{wide}}  {len(scores):<9}  " + "  ".join(means))
    return [line.rstrip() for line in lines]


def read_trial(path: Path) -> Trial:
    """Raises Problem for what is not of the documented form, or does not fit together."""
    try:
        trial = msgspec.json.decode(path.read_bytes(), type=Trial)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}.") from None
    except msgspec.MsgspecError as error:
        raise Problem(f"{path} is not of the form in docs/memory.md: {error}.") from None
    for conversation in trial.conversations:
        where = f"{path}, conversation {conversation.id!r}"
        for id, count in Counter(turn.id for turn in conversation.turns).items():
            if count > 1:
                raise Problem(f"{where}: {count} turns have the id {id!r}.")
        for turn in conversation.turns:
            try:
                _moment(turn.date)
            except ValueError:
                raise Problem(
                    f"{where}: the date of turn {turn.id!r} is no ISO 8601 time: {turn.date!r}."
                ) from None
    return trial


def evaluate(
    file: Path,
    *,
    base: Annotated[str, Parameter(help="Where the server is.")] = "http://localhost:3002",
    plain: Annotated[bool, Parameter(help="Send texts and dates alone, no threads and no speakers.")] = False,
    meaning: Annotated[
        bool, Parameter(help="Ask only once the server has the vectors of all turns, some minutes on.")
    ] = False,
    missed: Annotated[
        bool, Parameter(help="Name the questions without any answer among the first five.")
    ] = False,
) -> None:
    """Ask a server questions whose answers are known, and say how many it finds.

    The variable GUILDHALL_KEY holds a session token or an API key that may create hubs. Start the server with
    GUILDHALL_RATE_LIMIT_SCALE=0, or this waits as its limits say.

    Parameters
    ----------
    file
        Conversations, questions and the turns that answer them, in JSON.
    """
    trial = read_trial(file)
    key = os.environ.get(KEY)
    if not key:
        raise Problem(f"Set {KEY} to a session token, as `guildhall token` prints, or to an API key.")
    if not any(_answered(each) for each in trial.conversations):
        raise Problem(f"{file} asks nothing that has an answer.")
    with telling("Beginning …") as tell:
        answers = asyncio.run(_run(trial, base.rstrip("/"), key, tell, plain=plain, meaning=meaning))
    left = sum(len(each.questions) for each in trial.conversations) - len(answers)
    print(f"{len(answers)} questions" + (f"; {left} without an answer left out" if left else ""))
    for line in summary([scores for _, scores in answers]):
        print(line)
    if parts := by_category(answers):
        print("", *parts, sep="\n")
    if missed:
        lost = [question.question for question, scores in answers if not scores.any_5]
        print("", f"Without an answer among the first five ({len(lost)}):", *lost, sep="\n")


async def _run(
    trial: Trial, base: str, key: str, tell: Say, *, plain: bool, meaning: bool
) -> list[tuple[Question, Scores]]:
    answers: list[tuple[Question, Scores]] = []
    async with httpx.AsyncClient(
        base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30
    ) as http:
        server = _Server(http)
        for number, conversation in enumerate(trial.conversations, 1):

            def say(doing: str, number: int = number) -> None:
                tell(f"Conversation {number} of {len(trial.conversations)}: {doing} …")

            name = {"name": "Evaluation", "slug": f"eval-{secrets.token_hex(8)}"}
            hub = (await server.call("POST", "/v1/hubs", name))["id"]
            try:
                ids = await _push(server, hub, conversation, say, plain=plain)
                if meaning:
                    await _await_vectors(server, hub, conversation, ids, say)
                answers += await _ask(server, hub, conversation, ids, say)
            finally:
                await server.call("DELETE", f"/v1/hubs/{hub}")
    return answers


def _says(turn: Turn) -> bool:
    return turn.text.strip() != ""


def _answered(conversation: Conversation) -> list[Question]:
    """The questions that some turn answers."""
    known = {turn.id for turn in conversation.turns if _says(turn)}
    return [question for question in conversation.questions if not known.isdisjoint(question.gold)]


async def _push(
    server: "_Server", hub: str, conversation: Conversation, say: Say, *, plain: bool
) -> dict[str, str]:
    """The memory of each turn that says something. The same words again are the same memory."""
    ids: dict[str, str] = {}

    async def push(seq: int, turn: Turn) -> None:
        say(f"pushed {len(ids)} of {len(conversation.turns)} turns")
        body: dict[str, Any] = {"content": turn.text, "occurred_at": _moment(turn.date)}
        if not plain:
            thread = turn.thread or conversation.id
            body |= {"thread_id": thread, "seq": seq, "speaker": turn.speaker}
        ids[turn.id] = (await server.call("POST", "/v1/memories", body, hub))["id"]

    said = [(seq, turn) for seq, turn in enumerate(conversation.turns) if _says(turn)]
    await _all([lambda seq=seq, turn=turn: push(seq, turn) for seq, turn in said])
    return ids


async def _ask(
    server: "_Server", hub: str, conversation: Conversation, ids: dict[str, str], say: Say
) -> list[tuple[Question, Scores]]:
    asked = _answered(conversation)
    done = 0

    async def ask(question: Question) -> tuple[Question, Scores]:
        nonlocal done
        body = {"query": question.question, "limit": DEPTH, "hub_ids": [hub]}
        found = await server.call("POST", "/v1/recall", body)
        done += 1
        say(f"asked {done} of {len(asked)} questions")
        gold = {ids[turn] for turn in question.gold if turn in ids}
        return question, score([memory["id"] for memory in found["memories"]], gold)

    return await _all([lambda question=question: ask(question) for question in asked])


async def _await_vectors(
    server: "_Server", hub: str, conversation: Conversation, ids: dict[str, str], say: Say
) -> None:
    """Until each memory is found by its meaning. Raises Problem where that takes too long."""
    texts = {ids[turn.id]: turn.text for turn in conversation.turns if turn.id in ids}
    late = set(texts)
    until = time.monotonic() + VECTORS_S
    while late:
        say(f"{len(texts) - len(late)} of {len(texts)} turns have a vector")
        one = min(late)
        body = {"query": texts[one][:1000], "limit": 100, "hub_ids": [hub]}
        found = (await server.call("POST", "/v1/recall", body))["memories"]
        # What has no vector yet means 0 to any query, and itself 1 to its own words.
        late -= {memory["id"] for memory in found if memory["reasons"].get("meaning")}
        if one not in late:
            continue
        if time.monotonic() > until:
            raise Problem("The server makes no vectors. Does it have GUILDHALL_EMBEDDINGS set, and a worker?")
        await asyncio.sleep(LOOK_AGAIN_S)


async def _all(tasks: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """Some at a time, answered in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(task: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async with gate:
            return await task()

    return await asyncio.gather(*(one(task) for task in tasks))


def _moment(date: str) -> str:
    """A time with its zone; empty where there is none. Raises ValueError."""
    if not date:
        return ""
    moment = datetime.fromisoformat(date)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


class _Server:
    """Calls the API, and waits where it says that it is too much."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(self, method: str, path: str, body: Any = None, hub: str | None = None) -> Any:
        """What is in the envelope. Raises Problem for a refusal."""
        headers = {} if hub is None else {"X-Hub-ID": hub}
        while True:
            try:
                reply = await self._http.request(method, path, json=body, headers=headers)
            except httpx.HTTPError as error:
                raise Problem(f"{self._http.base_url} does not answer: {error}.") from None
            if reply.status_code not in (429, 503):
                break
            await asyncio.sleep(int(reply.headers.get("retry-after", "1")))
        if reply.status_code >= 400:
            raise Problem(f"{method} {path} was answered {reply.status_code}: {reply.text[:300]}")
        return reply.json()["data"]
