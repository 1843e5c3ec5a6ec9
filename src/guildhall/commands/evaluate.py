"""`guildhall eval`: questions with known answers, put to any server through its public API.

The file is JSON: `{"conversations": [{"id", "turns": [{"id", "text", "speaker"?, "date"?, "thread"?}],
"questions": [{"question", "gold": [turn ids]}]}]}`. Each conversation is pushed into a hub of its own, which
is deleted at the end. `thread` parts a conversation into sittings; without it, it is one.
"""

import asyncio
import math
import os
import secrets
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
from cyclopts import Parameter

from guildhall.commands import Problem

AT_ONCE = 4
DEPTH = 10
KEY = "GUILDHALL_KEY"


class Turn(msgspec.Struct, frozen=True):
    """`date` is an ISO 8601 day or time; without a zone, UTC is meant."""

    id: str
    text: str
    speaker: str = ""
    date: str = ""
    thread: str = ""


class Question(msgspec.Struct, frozen=True):
    question: str
    gold: list[str]


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
    lines: list[str] = []
    for field, name in NAMES.items():
        values = [getattr(each, field) for each in scores]
        mean = sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        lines.append(f"{name:<10} {mean:.3f} ± {1.96 * math.sqrt(spread / len(values)):.3f}")
    return lines


def read_trial(path: Path) -> Trial:
    """Raises Problem for what is not of the documented form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Trial)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}.") from None
    except msgspec.MsgspecError as error:
        raise Problem(f"{path} is not of the form in docs/memory.md: {error}.") from None


def evaluate(
    file: Path,
    *,
    base: Annotated[str, Parameter(help="Where the server is.")] = "http://localhost:3002",
    plain: Annotated[bool, Parameter(help="Send texts and dates alone, no threads and no speakers.")] = False,
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
    scores = asyncio.run(_run(trial, base.rstrip("/"), key, plain=plain))
    if not scores:
        raise Problem(f"{file} asks nothing.")
    print(f"{len(scores)} questions")
    for line in summary(scores):
        print(line)


async def _run(trial: Trial, base: str, key: str, *, plain: bool) -> list[Scores]:
    scores: list[Scores] = []
    async with httpx.AsyncClient(
        base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30
    ) as http:
        server = _Server(http)
        for conversation in trial.conversations:
            name = {"name": "Evaluation", "slug": f"eval-{secrets.token_hex(8)}"}
            hub = (await server.call("POST", "/v1/hubs", name))["id"]
            try:
                scores += await _converse(server, hub, conversation, plain=plain)
            finally:
                await server.call("DELETE", f"/v1/hubs/{hub}")
    return scores


async def _converse(server: "_Server", hub: str, conversation: Conversation, *, plain: bool) -> list[Scores]:
    ids: dict[str, str] = {}

    async def push(seq: int, turn: Turn) -> None:
        body: dict[str, Any] = {"content": turn.text, "occurred_at": _moment(turn.date)}
        if not plain:
            thread = turn.thread or conversation.id
            body |= {"thread_id": thread, "seq": seq, "speaker": turn.speaker}
        ids[turn.id] = (await server.call("POST", "/v1/memories", body, hub))["id"]

    async def ask(question: Question) -> Scores:
        body = {"query": question.question, "limit": DEPTH, "hub_ids": [hub]}
        found = await server.call("POST", "/v1/recall", body)
        gold = {ids[turn] for turn in question.gold if turn in ids}
        return score([memory["id"] for memory in found["memories"]], gold)

    await _all([lambda seq=seq, turn=turn: push(seq, turn) for seq, turn in enumerate(conversation.turns)])
    asked = [question for question in conversation.questions if any(turn in ids for turn in question.gold)]
    return await _all([lambda question=question: ask(question) for question in asked])


async def _all(tasks: Sequence[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """Some at a time, answered in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(task: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        async with gate:
            return await task()

    return await asyncio.gather(*(one(task) for task in tasks))


def _moment(date: str) -> str:
    """A time with its zone; empty where there is none."""
    if not date:
        return ""
    text = date if "T" in date or " " in date else f"{date}T00:00:00"
    tail = text[10:]
    return text if tail.endswith("Z") or "+" in tail or "-" in tail else f"{text}Z"


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
