"""Whatever people write is shown as they wrote it, and never runs."""

import itertools

import httpx
import pytest
from playwright.async_api import Browser

from tests.commands.serving import Serving
from tests.pages.browsing import visitor

pytestmark = pytest.mark.xdist_group("pages")

_CALL = "window.ran=1"
_SHAPES = [
    "<script>{x}</script>",
    "<img src=x onerror={x}>",
    "<svg onload={x}>",
    "<svg><script>{x}</script></svg>",
    "<iframe srcdoc='<script>parent.{x}</script>'></iframe>",
    "<body onload={x}>",
    "<details open ontoggle={x}>",
    "<a href='javascript:{x}' autofocus onfocus={x}>go</a>",
    "<input autofocus onfocus={x}>",
    "<math><mtext><script>{x}</script></mtext></math>",
    "<template><script>{x}</script></template>",
    "<object data='javascript:{x}'></object>",
    "<embed src='javascript:{x}'>",
    "<form action='javascript:{x}'><button>go</button></form>",
    "<style>@import 'javascript:{x}';</style>",
    "<video><source onerror={x}></video>",
    "<marquee onstart={x}>m</marquee>",
    "[link](javascript:{x})",
    "[link](data:text/html,<script>{x}</script>)",
    "[link](vbscript:{x})",
    '![picture](x" onerror="{x})',
    '[a](https://e.example "onmouseover={x}")',
    "{{{{constructor.constructor('{x}')()}}}}",
    "${{{x}}}",
    "{{% raw %}}{x}{{% endraw %}}",
]
_AROUND = ["{}", '"{}', "'>{}", '">{}', "</textarea>{}", "</title>{}", "--><!-- {}", "]]>{}"]
PAYLOADS = [around.format(shape.format(x=_CALL)) for around, shape in itertools.product(_AROUND, _SHAPES)]


async def test_two_hundred_scripts_in_every_field_show_as_text(site: Serving, browser: Browser) -> None:
    assert len(PAYLOADS) >= 200
    token = await site.token("mallory@demo.example")
    async with httpx.AsyncClient(
        base_url=site.base_url, headers={"authorization": f"Bearer {token}"}, timeout=30
    ) as mallory:
        me = (await mallory.post("/api/users/sync")).json()["id"]

        async def send(method: str, path: str, body: dict[str, object]) -> dict[str, object]:
            answer = await mallory.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else {}

        # Short fields have one payload each; posts and the backlog, which take long text, have all of them.
        await send("PATCH", f"/api/members/{me}/profile", {"displayName": PAYLOADS[1], "bio": PAYLOADS[2]})
        community = await send(
            "POST",
            "/api/communities",
            {"name": PAYLOADS[0], "description": PAYLOADS[3], "slug": "hostile-text"},
        )
        group = await send(
            "POST",
            "/api/groups",
            {"communityId": community["id"], "name": PAYLOADS[4], "description": PAYLOADS[5]},
        )
        invite = await send(
            "POST", f"/api/communities/{community['id']}/invite", {"email": "victim@demo.example"}
        )
        await mallory.post("/v1/hubs", json={"name": PAYLOADS[6], "slug": "hostile-hub"})
        await mallory.post("/v1/auth/api-keys", json={"name": PAYLOADS[7]})
        for start in range(0, len(PAYLOADS), 20):
            some = PAYLOADS[start : start + 20]
            await send(
                "POST",
                "/api/posts",
                {"communityId": community["id"], "title": some[0], "content": "\n\n".join(some)},
            )
        for payload in PAYLOADS[::25]:
            await send(
                "POST",
                "/api/backlog",
                {
                    "title": payload,
                    "description": "\n".join(PAYLOADS[:100]),
                    "apiEndpoint": payload,
                    "type": "bug",
                    "priority": "low",
                    "session": "web",
                },
            )
    async with visitor(browser, site) as someone:
        await someone.sign_in("mallory@demo.example")
        for path in (
            *("/", "/c/hostile-text", "/c/hostile-text/groups", "/c/hostile-text/members"),
            *("/c/hostile-text/invites", "/c/hostile-text/settings", f"/g/{group['id']}"),
            *("/h/hostile-hub", "/h/hostile-hub/settings", "/keys", "/profile", "/backlog"),
            f"/join/{invite['token']}",
        ):
            page = await someone.open(path)
            await page.wait_for_load_state("load")
            assert await page.evaluate("window.ran") is None, path
        page = await someone.open("/c/hostile-text")
        # The first payload, said out loud by the page.
        assert PAYLOADS[0] in await page.locator("main").inner_text()
        # Nothing of what was written became an element, or a link that a browser would run.
        assert (
            await page.locator("main :is(script, iframe, object, embed, style, svg, math, video)").count()
            == 0
        )
        links = await page.eval_on_selector_all("main a", "links => links.map(link => link.protocol)")
        assert set(links) <= {"http:", "https:", "mailto:"}
