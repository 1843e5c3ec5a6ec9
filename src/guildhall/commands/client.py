"""Where a server is and how to call it, for the commands that people and agents use from their own machines.

`GUILDHALL_URL` and `GUILDHALL_KEY` say so, or `client.toml` in the user's folder for settings, which
`guildhall login` writes. None of the server's own modules are needed here.
"""

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from guildhall.commands import Problem, own_name
from guildhall.commands.tables import clean

URL, KEY = "GUILDHALL_URL", "GUILDHALL_KEY"
DEFAULT_URL = "http://localhost:3002"
TIMEOUT_S = 30.0
MOST_BYTES = 3 * 1024 * 1024


class Target(msgspec.Struct, frozen=True):
    """A server, the key to it, and the hub that is used there where none is named."""

    url: str
    key: str
    hub: str = ""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the file holds."""

    url: str = ""
    key: str = ""
    hub: str = ""


def kept_in() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(folder) if folder else Path.home() / ".config") / "guildhall" / "client.toml"


def read_kept() -> Kept:
    """Raises Problem for a file that others can read, or that is not of our form."""
    path = kept_in()
    try:
        text = path.read_text("utf-8")
        if path.stat().st_mode & 0o077:
            raise Problem(f"{path} holds a key, and others can read it. Run: chmod 600 {path}")
        return msgspec.convert(tomllib.loads(text), Kept)
    except FileNotFoundError:
        return Kept()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Problem(f"{path} cannot be read: {error}. Write it anew with: {own_name()} login") from None


def keep(kept: Kept) -> None:
    """Write the file for its owner alone, whole or not at all."""
    path = kept_in()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # What JSON writes of a text, TOML reads as that text.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in msgspec.to_builtins(kept).items()]
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text("".join(lines), "utf-8")
    new.replace(path)


def clean_url(url: str) -> str:
    """Raises Problem for what is no address of a server."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise Problem(f"{url} is not the address of a server, as https://guild.example is.")
    return url.rstrip("/")


def target() -> Target:
    """The server to call. Raises Problem where nobody has said."""
    kept = read_kept()
    named = os.environ.get(URL, "").strip()
    url = clean_url(named or kept.url or DEFAULT_URL)
    # A key goes to the server that it is kept for, and to no other.
    known = kept if url == kept.url else Kept()
    key = os.environ.get(KEY, "").strip() or known.key
    if not key:
        raise Problem(
            f"There is no key for {url}. Make one there under API keys, then run: {own_name()} login --url"
            f" {url}\nOr set {KEY}, and {URL} for a server elsewhere."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Problem(f"What {KEY} holds is no key.")
    return Target(url, key, known.hub)


class Server:
    """Calls `/v1` and says in words what went wrong."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def call(self, method: str, path: str, body: Any = None, *, hub: str = "") -> Any:
        """What is in the envelope. Raises Problem for every refusal, with what to do about it."""
        # It takes longer to import than all the rest of this.
        import httpx

        headers = {"Authorization": f"Bearer {self.target.key}", "Accept": "application/json"}
        if hub:
            headers["X-Hub-ID"] = hub
        try:
            reply = httpx.request(
                method, self.target.url + path, json=body, headers=headers, timeout=TIMEOUT_S
            )
        except httpx.TimeoutException:
            raise Problem(f"{self.target.url} did not answer within {TIMEOUT_S:.0f} seconds.") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Problem(
                f"{self.target.url} does not answer ({error}). Is it the right address? {own_name()} serve"
                " runs a server here."
            ) from None
        try:
            heard = reply.json()
            if reply.is_success:
                return heard["data"]
            refused = heard["error"]
            code, message = str(refused["code"]), clean(str(refused["message"]))
        except (ValueError, LookupError, TypeError):
            raise Problem(
                f"{self.target.url} answers, but not as Guildhall does (status {reply.status_code})."
            ) from None
        raise Problem(self._advice(code, message, reply.headers.get("retry-after", "")))

    def _advice(self, code: str, message: str, retry_after: str) -> str:
        if code == "unauthorized":
            return (
                f"{self.target.url} does not know this key, or no longer. Make another under API keys, then"
                f" run: {own_name()} login --url {self.target.url}"
            )
        if code == "rate_limited":
            return f"That was too much at once. Try again in {retry_after or 'some'} seconds."
        if code == "not_member":
            return f"You are in no such hub. {own_name()} hub list shows yours."
        if code == "no_write_access":
            return "You may read in this hub, not write. Its owner or an admin can change your role."
        return f"{message} ({code})"


def hub_named(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The hub of these by its id, its slug, or `personal`. Raises Problem."""
    wanted = name.strip().lower()
    for row in rows:
        hub = row["hub"]
        if wanted in (hub["id"], hub["slug"].lower()) or (
            wanted == "personal" and hub["hub_type"] == "personal"
        ):
            return hub
    slugs = ", ".join(
        "personal" if row["hub"]["hub_type"] == "personal" else row["hub"]["slug"] for row in rows
    )
    raise Problem(f"You are in no hub {clean(name)}. There are: {slugs or 'none'}")


def text_from(words: tuple[str, ...], file: Path | None, what: str) -> str:
    """The text from the command line, a file, or what is piped in. Raises Problem for none or several."""
    if words and words != ("-",):
        if file is not None:
            raise Problem(f"Give the {what} either in words or in a file.")
        return " ".join(words)
    try:
        if file is not None:
            raw = file.read_bytes()
        elif words or not sys.stdin.isatty():
            raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            raw = b""
    except OSError as error:
        raise Problem(f"{file}: {error.strerror}.") from None
    if len(raw) > MOST_BYTES:
        raise Problem("That is more than 3 MiB, which is the most a memory holds.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(f"The {what} is not text in UTF-8.") from None
    if not text.strip():
        raise Problem(f"There is no {what}. Give it in words, or pipe it in.")
    return text
