"""`guildhall push`, `recall` and `ask`, `hub` and `login`: the memory of hubs from a terminal or a script."""

import getpass
import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from cyclopts import App, Parameter

from guildhall.commands import Problem, own_name
from guildhall.commands.client import (
    DEFAULT_URL,
    Kept,
    Server,
    Target,
    clean_url,
    hub_named,
    keep,
    kept_in,
    read_kept,
    target,
    text_from,
)
from guildhall.commands.tables import clean, print_table

SOURCE = "cli"

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print what the API answers, as JSON.")]
HubName: TypeAlias = Annotated[
    str | None, Parameter(name="--hub", help="The hub: its id, slug, or personal.")
]
OnlyHubs = Annotated[
    list[str] | None, Parameter(negative="", help="Look in this hub alone; may be repeated.")
]
Tags = Annotated[list[str] | None, Parameter(name="--tag", negative="", help="A tag; may be repeated.")]
Kind: TypeAlias = Literal["episodic", "semantic", "procedural", "rationale"]
KindName = Annotated[Kind | None, Parameter(help="What sort of knowledge it is.")]

hub = App(name="hub", help="List your hubs, choose the one to use, or make one.")


def login(*, url: Annotated[str, Parameter(help="Where the server is.")] = DEFAULT_URL) -> None:
    """Keep a server's address and an API key for the other commands.

    The key is asked for, or read from standard input; it is tried, and kept in a file that only you can read.
    """
    address = clean_url(url)
    asked = f"API key for {address}: "
    key = getpass.getpass(asked) if sys.stdin.isatty() else sys.stdin.readline()
    if not (key := key.strip()):
        raise Problem(f"There is no key. Make one under API keys on {address}.")
    user = Server(Target(address, key)).call("GET", "/v1/auth/me")["user"]
    keep(Kept(address, key))
    print(f"You are {clean(user['name'])} on {address}. The key is in {kept_in()}.")


def push(
    *words: Annotated[str, Parameter(help="The text. Without it, or for -, it is read from standard input.")],
    file: Annotated[Path | None, Parameter(name=["--file", "-f"], help="A text file to push.")] = None,
    hub: HubName = None,
    title: Annotated[str | None, Parameter(help="A line to know it by; made where absent.")] = None,
    tag: Tags = None,
    kind: KindName = None,
    source_path: Annotated[
        str | None,
        Parameter(help="Where it is from: pushed again from there, it replaces what was. A file's own path."),
    ] = None,
    occurred_at: Annotated[
        str | None, Parameter(help="When it happened or was said: a time with its zone.")
    ] = None,
    thread: Annotated[str | None, Parameter(help="The conversation that it is part of.")] = None,
    seq: Annotated[int | None, Parameter(help="Its place in the conversation; last where absent.")] = None,
    speaker: Annotated[str | None, Parameter(help="Who said it.")] = None,
    receipt: Annotated[
        str | None, Parameter(help="The receipt of the recall that this is drawn from.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep something worth knowing in a hub."""
    content = text_from(words, file, "text")
    path = source_path or (str(file.resolve()) if file is not None else "")
    server = Server(target())
    body: dict[str, Any] = {
        "content": content,
        "title": title or "",
        "tags": tag or [],
        "kind": kind or "",
        "source": SOURCE,
        "source_path": path,
        "occurred_at": occurred_at or "",
        "thread_id": thread or "",
        "speaker": speaker or "",
        "receipt_id": receipt or "",
        **({} if seq is None else {"seq": seq}),
    }
    memory = server.call("POST", "/v1/memories", body, hub=_hub_id(server, hub))
    if as_json:
        _print_json(memory)
        return
    print(f"{clean(memory['title'])}\nkept in {clean(memory['hub_name'])} as {memory['id']}")


def recall(
    *words: Annotated[str, Parameter(help="A question, or the words that matter.")],
    hub: OnlyHubs = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="How many at most.")] = 5,
    tag: Tags = None,
    kind: Annotated[Kind | None, Parameter(help="The sort of knowledge to prefer.")] = None,
    since: Annotated[
        str | None, Parameter(help="Only from then on: a time with its zone, or 12h, 7d, 2w.")
    ] = None,
    before: Annotated[str | None, Parameter(help="Only until then, in the same form.")] = None,
    archived: Annotated[bool, Parameter(negative="", help="Look into the archive too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what is known, the best first, with the reasons why."""
    query = text_from(words, None, "question")
    server = Server(target())
    body: dict[str, Any] = {
        "query": query,
        "limit": limit,
        "tags": tag or [],
        "kind": kind or "",
        "created_after": since or "",
        "created_before": before or "",
        "include_archived": archived,
        "source": SOURCE,
        **_only(server, hub),
    }
    found = server.call("POST", "/v1/recall", body, hub=server.target.hub)
    if as_json:
        _print_json(found)
        return
    if not found["memories"]:
        print("Nothing is known of this.")
    for number, memory in enumerate(found["memories"], 1):
        _print_memory(number, memory)


def ask(
    *words: Annotated[str, Parameter(help="The question.")],
    hub: OnlyHubs = None,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="Answer from so many memories.")] = 6,
    as_json: AsJson = False,
) -> None:
    """Answer a question in sentences that memories hold word for word."""
    query = text_from(words, None, "question")
    server = Server(target())
    body = {"query": query, "limit": limit} | _only(server, hub)
    answered = server.call("POST", "/v1/ask", body, hub=server.target.hub)
    if as_json:
        _print_json(answered)
        return
    print(_wrapped(answered["answer"]))
    for citation in answered["citations"]:
        print(f"[{citation['index']}] {clean(citation['title'])}  {citation['memory_id']}")


@hub.command(name="list")
def list_hubs(*, as_json: AsJson = False) -> None:
    """List your hubs; * marks the one that is used where none is named."""
    server = Server(target())
    rows = server.call("GET", "/v1/hubs")
    if as_json:
        _print_json(rows)
        return
    used = server.target.hub
    print_table(
        ("", "NAME", "SLUG", "ROLE", "MEMORIES"),
        [
            (
                "*" if row["hub"]["id"] == used or (not used and personal) else "",
                row["hub"]["name"],
                "personal" if personal else row["hub"]["slug"],
                row["role"],
                row["memory_count"],
            )
            for row in rows
            for personal in [row["hub"]["hub_type"] == "personal"]
        ],
        none="You are in no hub.",
    )


@hub.command(name="use")
def use_hub(name: Annotated[str, Parameter(help="Its id, its slug, or personal.")], /) -> None:
    """Push to this hub where none is named, and prefer it in recall."""
    where = target()
    kept = read_kept()
    if kept.url != where.url:
        raise Problem(f"The server is named by a variable. Keep it first, with: {own_name()} login")
    found = hub_named(Server(where).call("GET", "/v1/hubs"), name)
    keep(msgspec.structs.replace(kept, hub="" if found["hub_type"] == "personal" else found["id"]))
    print(f"{clean(found['name'])} is used from now on.")


@hub.command(name="create")
def create_hub(
    name: Annotated[str, Parameter(help="What it is called.")],
    /,
    *,
    slug: Annotated[
        str | None, Parameter(help="Its name in addresses; made from the name where absent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a hub, which you then own. The key needs the permission hub:manage."""
    made = Server(target()).call("POST", "/v1/hubs", {"name": name, **({"slug": slug} if slug else {})})
    if as_json:
        _print_json(made)
        return
    print(f"{clean(made['name'])} is made, as {made['slug']}.")


def _hub_id(server: Server, name: str | None) -> str:
    if name is None:
        return server.target.hub
    return hub_named(server.call("GET", "/v1/hubs"), name)["id"]


def _only(server: Server, names: list[str] | None) -> dict[str, list[str]]:
    if not names:
        return {}
    rows = server.call("GET", "/v1/hubs")
    return {"hub_ids": [hub_named(rows, name)["id"] for name in names]}


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _print_memory(number: int, memory: dict[str, Any]) -> None:
    by = " · ".join(
        clean(str(memory[name]))
        for name in ("hub_name", "author_name", "topic_name", "age")
        if memory.get(name)
    )
    print(f"{number}. {clean(memory['title'])}\n   {by}")
    if memory["chunk_content"].strip() != memory["title"]:
        print(textwrap.indent(_wrapped(memory["chunk_content"].strip()), "   "))
    reasons = memory["reasons"]
    why = [
        *reasons["terms"],
        *(["its speaker"] if reasons["speaker"] else []),
        *(["what is next to it"] if "neighbour_id" in reasons else []),
        *(f"its {fit}" for fit in reasons["fits"]),
    ]
    print(f"   for {', '.join(clean(each) for each in why)}\n   {memory['id']}")


def _wrapped(text: str) -> str:
    width = min(shutil.get_terminal_size().columns, 100) - 3
    return "\n".join(textwrap.fill(clean(line), width) if line.strip() else "" for line in text.splitlines())
