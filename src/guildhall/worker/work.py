"""What a handler of jobs is given, and how it says that trying again is no use."""

import msgspec

from guildhall.db import Db
from guildhall.providers.blobs import Blobs
from guildhall.providers.chat import Chat
from guildhall.providers.email import Email
from guildhall.web.service import Service


class Work(msgspec.Struct, frozen=True):
    """No handler may hold a transaction open while it speaks to a provider.

    `owner_url` is the database as the role that owns the tables, as far as this process knows: it may turn
    out to be another role.
    """

    db: Db
    service: Service
    email: Email
    owner_url: str

    @property
    def chat(self) -> Chat | None:
        return self.service.chat

    @property
    def blobs(self) -> Blobs:
        return self.service.blobs


class GiveUp(Exception):
    """The job cannot succeed however often it is tried: it rests for the operator. No personal data in it."""
