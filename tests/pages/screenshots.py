"""Pictures of the main pages, light and dark, for the documentation: `make screenshots`.

Says also how soon each page showed something, as the browser measured it.
"""

import asyncio
import tempfile
from pathlib import Path

from tests.commands.serving import serving
from tests.pages.browsing import DESKTOP, FIRST_CONTENT, PHONE, open_browser, visitor

FOLDER = Path(__file__).parents[2] / "docs" / "images"
PAGES = {
    "home": "/",
    "community": "/c/riverside-gardeners",
    "members": "/c/riverside-gardeners/members",
    "api": "/docs/api/posts",
    "backlog": "/backlog",
}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder) / "data", "--demo") as service, open_browser() as browser:
            for dark in (False, True):
                for size, viewport in (("", DESKTOP), ("-phone", PHONE)):
                    async with visitor(browser, service, viewport=viewport, dark=dark) as ada:
                        await ada.sign_in("ada@demo.example")
                        for name, path in PAGES.items():
                            page = await ada.open(path)
                            await page.wait_for_load_state("load")
                            shown = await page.evaluate(FIRST_CONTENT)
                            file = FOLDER / f"{name}{size}{'-dark' if dark else ''}.png"
                            await page.screenshot(path=file)
                            print(f"{file.name:32} first content after {shown:4.0f} ms", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
