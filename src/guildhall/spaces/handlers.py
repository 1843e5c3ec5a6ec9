"""What the worker does for spaces."""

from collections.abc import Sequence

from guildhall.outbox import Handlers, Scheduled
from guildhall.spaces.blobs import delete_unused_blob, leave_unused_blobs
from guildhall.spaces.channels import match_channels, sweep_channels
from guildhall.spaces.departures import clear_departures
from guildhall.spaces.jobs import (
    BlobUnused,
    ChannelsDue,
    DeparturesDue,
    FilesDue,
    InviteEnding,
    InviteMade,
    InvitesDue,
    SpaceChanged,
    SpaceSwept,
)
from guildhall.spaces.letters import leave_reminders, mail_invite, mail_reminder
from guildhall.spaces.sweeps import leave_channel_jobs

HANDLERS: Handlers = {
    SpaceChanged: match_channels,
    SpaceSwept: sweep_channels,
    ChannelsDue: leave_channel_jobs,
    InviteMade: mail_invite,
    InvitesDue: leave_reminders,
    InviteEnding: mail_reminder,
    BlobUnused: delete_unused_blob,
    FilesDue: leave_unused_blobs,
    DeparturesDue: clear_departures,
}

SCHEDULES: Sequence[Scheduled] = (
    Scheduled("12 3 * * *", ChannelsDue(of="all")),
    Scheduled("42 * * * *", ChannelsDue(of="unfinished"), at_start=True),
    Scheduled("22 * * * *", DeparturesDue(), at_start=True),
    Scheduled("47 4 * * *", FilesDue()),
    Scheduled("52 5,17 * * *", InvitesDue()),
    Scheduled("* * * * *", ChannelsDue(of="stalled")),
)
