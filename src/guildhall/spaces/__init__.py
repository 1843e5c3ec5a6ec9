"""The kernel: what a community and a hub share. Ranks, grants, seats, members, invites, transfer, audit.

A space is anything that has members. A surface translates its own vocabulary into these verbs.
"""

from typing import NewType
from uuid import UUID

SpaceId = NewType("SpaceId", UUID)
UserId = NewType("UserId", str)
