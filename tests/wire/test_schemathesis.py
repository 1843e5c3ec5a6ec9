"""Many requests made from the published documents, each answered as they say."""

import os
from collections import defaultdict
from typing import Any

import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from tests.wire.furnished import DOCUMENTS, Furnished, furnish
from tests.wire.served import Served

LONG = os.environ.get("GUILDHALL_LONG") == "1"
pytestmark = pytest.mark.xdist_group("documents")
many = settings(
    max_examples=400 if LONG else 5,
    deadline=None,
    database=None,
    derandomize=not LONG,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.function_scoped_fixture,
    ],
)
CONFIG: dict[str, Any] = {
    # A schema cannot say everything that is asked of a value: that a cursor is one of ours, for example.
    "checks": {"positive_data_acceptance": {"enabled": False}},
    # What a route does with other methods is the same for all of them, and tested once.
    "phases": {"coverage": {"unexpected-methods": []}},
}


def described(prefix: str) -> Any:
    return schemathesis.openapi.from_dict(DOCUMENTS[prefix], config=SchemathesisConfig.from_dict(CONFIG))


api = described("/api")
# A stream of events has no end to wait for.
v1 = described("/v1").exclude(path_regex="/stream$")


@pytest_asyncio.fixture
async def home(served: Served) -> Furnished:
    return await furnish(served.world)


@api.parametrize()
@many
def test_every_answer_of_api_is_one_its_document_promises(case: Any, served: Served, home: Furnished) -> None:
    hold(case, served, home)


@v1.parametrize()
@many
def test_every_answer_of_v1_is_one_its_document_promises(case: Any, served: Served, home: Furnished) -> None:
    hold(case, served, home)


# One connection for all, since to open one costs more than what is asked over it.
SESSION = requests.Session()


def hold(case: Any, served: Served, home: Furnished) -> None:
    aim(case, home)
    headers = {"Authorization": f"Bearer {home.ada.token}"}
    response = case.call(base_url=served.service.base_url, headers=headers, session=SESSION)
    case.validate_response(response)
    SEEN[case.operation.label].add(response.status_code)


SEEN: defaultdict[str, set[int]] = defaultdict(set)


def aim(case: Any, home: Furnished) -> None:
    """Most of the time, ask about what is there, and about nothing that was asked before."""
    named = home.names(case.operation.path)
    well_formed = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
    for place in (case.path_parameters, case.query, case.body):
        if not isinstance(place, dict) or not (well_formed or place is case.path_parameters):
            continue
        for name, value in place.items():
            real = named.get(name) or named.get(snake(name))
            if isinstance(value, str) and isinstance(real, str) and len(value) % 5:
                place[name] = real
        if well_formed:
            place.pop("cursor", None)
    if well_formed:
        case.headers.pop("Idempotency-Key", None)


def snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def test_the_requests_were_good_enough_to_be_served() -> None:
    """Runs last. What is left needs something that cannot be had by a first request."""
    unserved = {label for label, statuses in SEEN.items() if min(statuses) >= 400}
    assert len(unserved) <= len(SEEN) / 4, sorted(unserved)
