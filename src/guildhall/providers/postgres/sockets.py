"""Folders a Unix socket may lie in: the path is short, and nobody else may enter."""

import os
import re
import tempfile
from pathlib import Path

from guildhall.providers.postgres.keeper import PORT

# The shortest limit among the systems we know is 104 bytes, the closing zero byte included.
_LONGEST = 103
_PLAIN = re.compile(r"[A-Za-z0-9/._+ -]+")


def fits_a_socket(folder: Path) -> bool:
    """Whether the path is short enough, and plain enough for every setting and address it goes into."""
    name = f"{folder}/.s.PGSQL.{PORT}"
    return len(os.fsencode(name)) <= _LONGEST and _PLAIN.fullmatch(name) is not None


def temporary_folders() -> list[Path]:
    # Only ever for a new private folder inside. The second is there because TMPDIR can be a long path too.
    return [Path(name) for name in dict.fromkeys((tempfile.gettempdir(), "/tmp"))]  # noqa: S108


def new_socket_folder() -> Path:
    """A new folder of mode 0700. Raises OSError when there is no place for one."""
    for base in temporary_folders():
        folder = Path(tempfile.mkdtemp(prefix="guildhall-", dir=base))
        if fits_a_socket(folder):
            return folder
        folder.rmdir()
    raise OSError("no folder has a path short enough for a socket; set TMPDIR to a short one")
