"""The rules of the house that a machine can check."""

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from guildhall import __version__
from guildhall.errors import AppError
from guildhall.settings import SettingsError, read_settings
from guildhall.settings_about import GROUPS
from guildhall.web.caller import Caller, Guest
from guildhall.web.limits import EXACT, LOCAL
from guildhall.web.openapi import ANYWHERE, SURFACES, operations, refusals
from guildhall.wiring import ROUTES
from tests.house.pages import FIELDS, LIMITS, PAGES, UNHEARD, all_errors
from tests.house.refresh import ROOT

SOURCE = ROOT / "src" / "guildhall"
MODULES = sorted(SOURCE.rglob("*.py"))


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text("utf-8"))


def calls(tree: ast.AST, *names: str) -> Iterator[ast.Call]:
    """The calls of functions by these names, however they are reached."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = (
                node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            )
            if called in names:
                yield node


def test_every_handler_says_whom_it_serves() -> None:
    for handler in ROUTES:
        hints = get_type_hints(inspect.unwrap(handler.fn))
        assert sum(hint in (Caller, Guest) for hint in hints.values()) == 1, handler.paths


def test_only_one_module_makes_seats() -> None:
    makers = {where for where, tree in trees() for _ in calls(tree, "CommunitySeat", "HubSeat")}
    assert makers == {"spaces/seats.py"}
    # Nor is one made from another, with more rights.
    for where, tree in trees():
        for call in calls(tree, "replace"):
            assert "seat" not in ast.unparse(call.args[0]) if call.args else True, where


VENDORS = (
    "redis",
    "resend",
    "svix",
    "clerk_backend_api",
    "aiosmtplib",
    "obstore",
    "granian",
    "nh3",
    "markdown_it",
    "mcp",
)


def test_each_vendors_library_is_spoken_to_by_one_module() -> None:
    speakers: dict[str, set[str]] = {}
    for where, tree in trees():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            for name in names:
                speakers.setdefault(name.partition(".")[0], set()).add(where)
    for vendor in VENDORS:
        assert len(speakers[vendor]) == 1, (vendor, speakers[vendor])


STATEMENTS = ("maybe", "one", "many", "value", "run", "fetch", "fetchrow", "fetchval", "execute")


def test_sql_is_never_put_together_from_values() -> None:
    """The types say so too; this finds what was told not to look."""
    for where, tree in trees():
        for call in calls(
            tree, "maybe", "one", "many", "value", "run", "fetch", "fetchrow", "fetchval", "execute"
        ):
            for argument in call.args[:2]:
                assert not isinstance(argument, ast.JoinedStr), f"{where}:{call.lineno}"


def test_every_refusal_is_used() -> None:
    text = {path: path.read_text("utf-8") for path in MODULES}
    for kind in all_errors():
        uses = sum(len(re.findall(rf"\b{kind.__name__}\b", source)) for source in text.values())
        assert uses > 1, f"{kind.__module__}.{kind.__name__} is never raised"


def test_a_code_means_one_status_on_a_surface() -> None:
    for surface in SURFACES:
        found: dict[str, set[int]] = {}
        for operation in operations(ROUTES, surface.prefix + "/"):
            for kind in refusals(operation):
                found.setdefault(kind.code, set()).add(kind.status)
        several = {code for code, statuses in found.items() if len(statuses) > 1}
        # An invite that was used is gone for who looks, and in the way of who accepts. To push into a frozen
        # hub wants a plan, to have it tidied up only patience.
        assert several <= {"used", "hub_frozen"}


def test_every_code_is_a_word_and_says_what_to_do() -> None:
    for kind in all_errors():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code), kind
        assert 400 <= kind.status < 600
        assert kind.title.endswith((".", "?")) and kind.title[0].isupper(), kind
    assert all(issubclass(kind, AppError) for kind in ANYWHERE)


def test_every_code_of_a_bad_field_is_documented() -> None:
    found: set[str] = set()
    for _, tree in trees():
        for call in calls(tree, "FieldError"):
            for argument in [*call.args[1:2], *(k.value for k in call.keywords if k.arg == "code")]:
                found |= {
                    node.value
                    for node in ast.walk(argument)
                    if isinstance(node, ast.Constant) and isinstance(node.value, str)
                }
    documented = FIELDS.keys() | UNHEARD
    assert found <= documented, found - documented


def test_every_rate_limit_is_documented_and_no_other() -> None:
    assert LIMITS.keys() == LOCAL.keys() | EXACT.keys()


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_made_from_the_code_are_those_the_code_makes(page: str) -> None:
    assert (ROOT / "docs" / page).read_text("utf-8") == PAGES[page](), (
        "Run `make openapi` and look at the diff."
    )


def test_every_setting_that_is_read_is_documented_and_no_other() -> None:
    tree = ast.parse((SOURCE / "settings.py").read_text("utf-8"))
    first = [call.args[0] for call in calls(tree, *READERS) if call.args]
    read = {node.value for node in first if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    documented = [setting.name for group in GROUPS.values() for setting in group]
    assert len(documented) == len(set(documented))
    # Some are read in loops.
    in_loops = {"SECRET_PREVIOUS", *(name for name in documented if name.startswith("BLOBS_"))}
    assert set(documented) == {name for name in read if name.isupper()} | in_loops


READERS = ("get", "need", "number", "flag", "pick", "words", "secret", "read")


def test_a_mistyped_setting_is_told_what_it_may_have_been() -> None:
    for group in GROUPS.values():
        for setting in group:
            with pytest.raises(SettingsError) as refused:
                read_settings({}, {f"{setting.name}X": "1"})
            assert f"Is it GUILDHALL_{setting.name}?" in str(refused.value)
    with pytest.raises(
        SettingsError, match="GUILDHALL_SMTP_HOST is set, but with the other settings nothing"
    ):
        read_settings({}, {"SMTP_HOST": "mail.example"})


BESIDE: dict[str, dict[str, str]] = {
    "CLERK_API_URL": {"IDENTITY": "clerk", "CLERK_ISSUER": "https://clerk.example"},
    "CHAT_URL": {"CHAT_KEY": "key", "CHAT_SECRET": "x" * 32},
    "SMTP_PORT": {"EMAIL": "smtp", "EMAIL_FROM": "a@guild.example", "SMTP_HOST": "mail.example"},
}
BESIDE["SMTP_SECURITY"] = BESIDE["SMTP_PORT"]


def test_a_default_is_what_holds_without_the_setting(tmp_path: Path) -> None:
    for group in GROUPS.values():
        for setting in group:
            if setting.default and setting.name != "DATA_DIR":
                beside = {"DATA_DIR": str(tmp_path), **BESIDE.get(setting.name, {})}
                told = read_settings({}, {**beside, setting.name: setting.default})
                assert told == read_settings({}, beside), setting.name


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__


def test_no_module_is_too_long_to_read_at_once() -> None:
    long = {
        path.name: lines for path in MODULES if (lines := len(path.read_text("utf-8").splitlines())) > 600
    }
    assert not long


def tracked() -> list[Path]:
    """The files of the project, as they are kept."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("this is not a clone")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_nothing_kept_speaks_of_one_machine() -> None:
    """No registry that somebody happened to use, and no folder that only one machine has."""
    hosts = r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|:[0-9]+/(simple|artifactory)"
    folders = r"(?<![\w.])/(root|home/[a-z]\w*|Users/\w+|work|workspace)/"
    odd = re.compile(f"{hosts}|{folders}")
    found: list[str] = []
    for path in tracked():
        if path.name == "uv.lock" or path == Path(__file__):
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in odd.finditer(text)]
    assert not found


LOOK_WHILE_IMPORTING = """
import builtins, importlib, json, os, pkgutil, sys, time
began = time.perf_counter()
import guildhall.wiring
took_s = time.perf_counter() - began
optional = ("redis", "clerk_backend_api", "svix", "resend", "uvicorn", "granian", "mcp")
extras = [name for name in optional if name in sys.modules]
names = [found.name for found in pkgutil.walk_packages(guildhall.__path__, "guildhall.")
         if found.name.rpartition(".")[2] != "__main__"]
for name in names:
    importlib.import_module(name)
# Libraries are there by now: what happens from here on is done by our own modules.
source = os.path.dirname(guildhall.__file__)
for name in [name for name in sys.modules if name.partition(".")[0] == "guildhall"]:
    del sys.modules[name]
seen, watching = [], True

def watch(event, arguments):
    if not watching:
        return
    if event == "open":
        path, mode = str(arguments[0]), arguments[1]
        if path.startswith(source) and path.endswith((".py", ".pyc")) and mode in (None, "r", "rb"):
            return
        seen.append(f"open {path}")
    elif event.startswith(("socket.", "subprocess.", "os.system", "os.mkdir", "os.remove", "_thread.")):
        seen.append(event)

class Environment(dict):
    def __getitem__(self, name):
        note(name)
        return super().__getitem__(name)
    def get(self, name, default=None):
        note(name)
        return super().get(name, default)

def note(name):
    if sys._getframe(2).f_code.co_filename.startswith(source):
        seen.append(f"environment {name}")

os.environ = Environment(os.environ)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
watching = False
print(json.dumps({"seen": seen, "extras": extras, "modules": len(names), "took_s": took_s}))
"""


def test_nothing_happens_at_import(record_property: Any) -> None:
    """No file, socket, process, thread or variable of the environment is touched, and no extra is loaded."""
    code = [sys.executable, "-P", "-c", LOOK_WHILE_IMPORTING]
    done = subprocess.run(code, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["seen"] == []
    assert found["extras"] == []
    assert found["modules"] > 100
    # Not held to a number, since machines differ; `pytest -rP` shows it.
    record_property("import_s", found["took_s"])
    print(f"guildhall.wiring is imported in {found['took_s']:.2f} s")
