"""`guildhall push`, `recall`, `ask`, `hub` and `login`, against a server that runs."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.commands.serving import Done, command
from tests.v1.client import listening
from tests.v1.test_memories import key_of, push
from tests.world import Person, World


class Shell:
    """Runs commands at a terminal of one's own, against one server."""

    def __init__(self, world: World, url: str, home: Path) -> None:
        self.world = world
        self.url = url
        self.home = home
        self.file = home / "guildhall" / "client.toml"
        self.env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "XDG_CONFIG_HOME": str(home)}

    async def run(self, *arguments: str, typed: str = "", **variables: str) -> Done:
        process = await asyncio.create_subprocess_exec(
            *command(),
            *arguments,
            env=self.env | {f"GUILDHALL_{name.upper()}": value for name, value in variables.items()},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(typed.encode())
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def ok(self, *arguments: str, typed: str = "", **variables: str) -> str:
        done = await self.run(*arguments, typed=typed, **variables)
        assert done.code == 0, done
        return done.out

    async def json(self, *arguments: str, typed: str = "") -> Any:
        return json.loads(await self.ok(*arguments, "--json", typed=typed))

    async def refused(self, *arguments: str, typed: str = "", **variables: str) -> str:
        done = await self.run(*arguments, typed=typed, **variables)
        assert (done.code, done.out) == (1, ""), done
        assert "Traceback" not in done.err
        return done.err

    async def as_person(self, person: Person, *scopes: str) -> str:
        """Log in with a new key, which is answered."""
        key = await key_of(person, **({"scopes": list(scopes)} if scopes else {}))
        assert key.token is not None
        await self.ok("login", "--url", self.url, typed=key.token + "\n")
        return key.token


@pytest_asyncio.fixture
async def shell(world: World, tmp_path: Path) -> AsyncIterator[Shell]:
    async with listening(world) as http:
        yield Shell(world, str(http.base_url).rstrip("/"), tmp_path)


async def test_turns_are_pushed_with_their_place_and_asked_for_hub_by_hub(shell: Shell) -> None:
    ada = await shell.world.person("Ada Lovelace")
    hub = await shell.world.hub(ada)
    await shell.as_person(ada)
    when = "2023-05-08T10:00:00Z"
    said = ["--thread", "call", "--seq", "7", "--speaker", "Bo", "--occurred-at", when, "--hub", hub.id]
    turn = await shell.json("push", "I ate figs for breakfast.", *said)
    assert (turn["thread_id"], turn["seq"], turn["speaker"]) == ("call", 7, "Bo")
    assert turn["occurred_at"].startswith("2023-05-08T10:00:00")
    await push(ada, "Figs for breakfast, says the cook.")
    asked = await shell.json("ask", "Who ate figs for breakfast?", "--hub", hub.id)
    assert [source["id"] for source in asked["sources"]] == [turn["id"]]
    assert len((await shell.json("ask", "figs for breakfast", "--limit", "1"))["sources"]) == 1


async def test_a_reader_who_has_read_enough_is_no_error(shell: Shell) -> None:
    ada = await shell.world.person("Ada Lovelace")
    await shell.as_person(ada)
    await push(ada, "Quinces ripen in October. " + "They want sun. " * 12_000)
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        '"$@" | head -c 10',
        "sh",
        *command(),
        "recall",
        "When do quinces ripen?",
        env=shell.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out, err) == (b"1. Quinces", b"")


async def test_what_is_pushed_from_anywhere_is_recalled_and_answers_questions(
    shell: Shell, tmp_path: Path
) -> None:
    ada = await shell.world.person("Ada Lovelace")
    await shell.as_person(ada)
    said = await shell.ok("push", "Quinces", "ripen", "in", "October.", "--tag", "fruit")
    assert said.splitlines()[0] == "Quinces ripen in October."
    assert said.splitlines()[1].startswith("kept in Memory Hub as ")
    piped = await shell.json("push", typed="Plums ripen in August.\n")
    assert (piped["content"].strip(), piped["source"]) == ("Plums ripen in August.", "cli")
    file = tmp_path / "figs.md"
    file.write_text("# Figs\n\nFigs want a wall behind them.")
    first = await shell.json("push", "-f", str(file))
    file.write_text("# Figs\n\nFigs want sun and a wall behind them.")
    again = await shell.json("push", "-f", str(file))
    assert (first["id"], first["version"], again["version"]) == (again["id"], 1, 2)

    found = await shell.ok("recall", "When do quinces ripen?")
    assert found.splitlines()[0] == "1. Quinces ripen in October."
    assert "Memory Hub · Ada Lovelace · just now" in found and "for quinc, ripen" in found
    whole = await shell.json("recall", "quinces", "--limit", "1")
    assert whole["memories"][0]["tags"] == ["fruit"] and whole["receipt_id"]
    assert await shell.ok("recall", "submarine") == "Nothing is known of this.\n"
    assert (await shell.json("recall", "ripen", "--tag", "fruit"))["query_metadata"]["filters"]["tags"] == [
        "fruit"
    ]
    assert "“Quinces ripen in October.” [1]" in await shell.ok("ask", "When do quinces ripen?")


async def test_a_hub_is_made_chosen_and_used(shell: Shell) -> None:
    ada = await shell.world.person("ada")
    key = await shell.as_person(ada, "read", "write", "hub:manage")
    made = await shell.json("hub", "create", "Orchard")
    assert (await shell.ok("hub", "use", made["slug"].upper())) == "Orchard is used from now on.\n"
    rows = [line.split() for line in (await shell.ok("hub", "list")).splitlines()]
    assert rows[1:] == [
        ["Memory", "Hub", "personal", "owner", "0"],
        ["*", "Orchard", made["slug"], "owner", "0"],
    ]
    assert (await shell.json("push", "Here"))["hub_id"] == made["id"]
    other = await shell.json("push", "There", "--hub", "personal")
    assert other["hub_id"] != made["id"]
    assert [
        m["title"] for m in (await shell.json("recall", "here there", "--hub", "personal"))["memories"]
    ] == []
    assert shell.file.stat().st_mode & 0o777 == 0o600
    assert key not in await shell.ok("hub", "list")


async def test_variables_say_which_server_and_a_key_goes_to_no_other(shell: Shell) -> None:
    ada, bo = await shell.world.people("ada", "bo")
    await push(bo, "Of bo's")
    bos = await key_of(bo)
    assert bos.token is not None
    assert "Of bo's" in await shell.ok("recall", "bo's", url=shell.url + "/", key=bos.token)
    await shell.as_person(ada)
    assert "Of bo's" in await shell.ok("recall", "bo's", key=bos.token)
    elsewhere = await shell.refused("recall", "x", url="http://127.0.0.1:9")
    assert "There is no key for http://127.0.0.1:9" in elsewhere


@pytest.mark.parametrize(
    ("arguments", "typed", "variables", "said"),
    [
        (("recall", "x"), "", {}, "There is no key for http://localhost:3002. Make one there"),
        (("recall", "x"), "", {"key": "mxk_x", "url": "http://127.0.0.1:9"}, "does not answer"),
        (("recall", "x"), "", {"key": "x", "url": "guild.example"}, "is not the address of a server"),
        (("recall", "x"), "", {"key": "a\x7fb"}, "is no key"),
        (("push",), "", {"key": "x"}, "There is no text"),
        (("push", "x", "-f", "y"), "", {"key": "x"}, "either in words or in a file"),
        (("push", "-f", "/none/such"), "", {"key": "x"}, "No such file"),
        (("login",), "\n", {}, "There is no key"),
    ],
)
async def test_what_is_missing_is_said_with_what_to_do(
    tmp_path: Path, arguments: tuple[str, ...], typed: str, variables: dict[str, str], said: str
) -> None:
    shell = Shell(None, "", tmp_path)  # pyright: ignore[reportArgumentType] - it calls no server
    assert said in await shell.refused(*arguments, typed=typed, **variables)


async def test_what_a_server_refuses_is_said_with_what_to_do(shell: Shell) -> None:
    ada, bo = await shell.world.people("ada", "bo")
    hub = await shell.world.hub(ada, viewers=[bo])
    assert "does not know this key" in await shell.refused("login", "--url", shell.url, typed="mxk_x\n")
    assert not shell.file.exists()
    await shell.as_person(bo, "read")
    assert "needs a key with the permission memory:write" in await shell.refused("push", "x")
    assert "You are in no hub nowhere. There are: personal, " in await shell.refused(
        "recall", "x", "--hub", "nowhere"
    )
    assert "(invalid_created)" in await shell.refused("recall", "x", "--since", "soon")
    assert "(permission_denied)" in await shell.refused("hub", "create", "Mine")
    await shell.as_person(bo)
    assert "You may read in this hub, not write." in await shell.refused("push", "x", "--hub", hub.id)
    shell.file.chmod(0o644)
    assert "others can read it" in await shell.refused("hub", "list")
    shell.file.chmod(0o600)
    shell.file.write_text("url = 5")
    assert "login" in await shell.refused("hub", "list")


async def test_whatever_somebody_wrote_does_not_steer_the_terminal(shell: Shell) -> None:
    ada = await shell.world.person("ada")
    await shell.as_person(ada)
    await push(ada, "Ferns \x1b[2J\x07 thrive.\n\x1b]0;owned\x07 in shade")
    for arguments in (("recall", "ferns"), ("ask", "ferns"), ("recall", "ferns", "--json")):
        out = await shell.ok(*arguments)
        assert "Ferns" in out and "\x1b" not in out and "\x07" not in out


async def test_the_commands_need_nothing_of_the_server() -> None:
    code = (
        "import sys, guildhall.__main__, guildhall.commands.memory\n"
        "heavy = ('litestar', 'guildhall.wiring', 'guildhall.web', 'guildhall.memories', 'httpx', 'mcp')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", code, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
