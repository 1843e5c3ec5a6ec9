"""The examples of the documentation, as a reader types them: every `sh` block of a page in one shell.

A `json` block after one shows the shape of what it prints (the same fields with values of the same kind), a
`text` block the very words. A `console` block is for reading alone.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.commands.serving import Serving

DOCS = Path(__file__).parents[2] / "docs"
BASE_URL = "http://localhost:3002"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "--- end of the example ---"


class Example:
    """A block of commands and what the page says they print: its language and text, or None."""

    def __init__(self, commands: str) -> None:
        self.commands = commands
        self.shown: tuple[str, str] | None = None


def examples(page: Path) -> list[Example]:
    found: list[Example] = []
    for language, text in _BLOCK.findall(page.read_text("utf-8")):
        if language == "sh":
            found.append(Example(text))
        elif language in ("json", "text") and found and found[-1].shown is None:
            found[-1].shown = (language, text)
    return found


async def follow(page: Path, service: Serving, folder: Path) -> None:
    """Type everything the page says, in a folder that looks like the project after `make run`."""
    (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    (folder / ".data").symlink_to(service.data_dir, target_is_directory=True)
    steps = examples(page)
    script = "".join(f"{step.commands}\nprintf '\\n%s\\n' '{_END}'\n" for step in steps)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euo",
        "pipefail",
        "-c",
        script.replace(BASE_URL, f"http://localhost:{service.port}"),
        cwd=folder,
        # What the reader's own programs keep is not for the home of whoever runs the tests.
        env={
            **service.env,
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    printed = out.decode().split(f"\n{_END}\n")
    assert process.returncode == 0, f"step {len(printed)}: {steps[len(printed) - 1].commands}\n{err.decode()}"
    for step, text in zip(steps, printed, strict=False):
        if step.shown is None:
            continue
        language, expected = step.shown
        if language == "json":
            assert shape(json.loads(text)) == shape(json.loads(expected)), f"{step.commands}\nprinted {text}"
        else:
            actual = text.strip().replace(f"http://localhost:{service.port}", BASE_URL)
            assert actual == expected.strip(), f"{step.commands}\nprinted {text}"


def shape(value: Any) -> Any:
    """What an example promises of a value: names and kinds, not the ids and times of one day."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__
