"""Which hub a request is about: the header X-Hub-ID, else the query's hub_id, else the caller's usual one.

A read that names a hub out of reach goes to the usual one, since a client may hold the id of a hub that is
gone. A write does not, so that nothing lands in the wrong hub.
"""

from typing import Annotated
from uuid import UUID

from litestar.params import Parameter

from guildhall.memories.rules import InvalidTopicId
from guildhall.spaces.seats import Place, as_hub_name, as_uuid, hub_place

HubHeader = Annotated[
    str | None,
    Parameter(
        header="X-Hub-ID", max_length=64, description="The hub it is about; one's own where there is none."
    ),
]
HubQuery = Annotated[
    str | None,
    Parameter(query="hub_id", max_length=64, description="The hub, where X-Hub-ID does not name one."),
]
TopicQuery = Annotated[str | None, Parameter(max_length=64, description="Only what is in this topic.")]


def writing_place(header: str | None) -> Place:
    """Where a write goes. Raises NotMember for what is no hub's id."""
    return hub_place(header) if header else Place(None, None)


def reading_names(header: str | None, query: str | None = None) -> tuple[str | None, str | None]:
    """The hubs to try for a read, in order, by id or slug."""
    return (as_hub_name(header) if header else None, as_hub_name(query) if query else None)


def read_topic(raw: str | None) -> UUID | None:
    """A topic to look in. Raises InvalidTopicId."""
    if not raw:
        return None
    topic = as_uuid(raw)
    if topic is None:
        raise InvalidTopicId
    return topic
