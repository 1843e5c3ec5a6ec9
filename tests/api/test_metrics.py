"""What an operator's Prometheus reads, where the settings open it."""

import re

import msgspec

from tests.world import World, open_world


def value(text: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_requests_are_counted_by_method_and_status(world: World) -> None:
    measured = msgspec.structs.replace(world.house.settings, metrics=True)
    async with open_world(measured) as house:
        for _ in range(3):
            assert (await house.nobody.get("/api/communities")).error == "unauthorized"
        answer = (await house.nobody.get("/metrics")).response
        assert answer.headers["content-type"].startswith("text/plain")
        assert value(answer.text, 'guildhall_requests_total{method="GET",status="401"}') == 3
        assert value(answer.text, 'guildhall_request_seconds_bucket{le="+Inf"}') == 3
        assert value(answer.text, "process_resident_memory_bytes") > 0


async def test_they_are_closed_unless_the_settings_open_them(world: World) -> None:
    assert (await world.nobody.get("/metrics")).error == "not_found"
