"""The documentation tells the truth: its examples run, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.commands.serving import serving
from tests.docs.pages import DOCS, examples, follow

PAGES = sorted(DOCS.glob("*.md"))
TRIED = [page for page in PAGES if examples(page)]


@pytest.mark.parametrize("page", TRIED, ids=lambda page: page.stem)
async def test_the_examples_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    async with serving(tmp_path / "data") as service:
        await follow(page, service, folder)


@pytest.mark.parametrize("page", [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))], ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target
