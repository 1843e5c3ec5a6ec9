"""`/api/users` and `/api/members/:id/profile`: one's account, what others see of it, and one's data."""

import json
from typing import Any

from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from guildhall.errors import Forbidden, NotFound, TooManyRequests, Unavailable
from guildhall.users import erasure, exports, profiles
from guildhall.users.accounts import Own
from guildhall.users.auth import no_cookie
from guildhall.users.schemas import ChangeProfile, Export, UserProfile
from guildhall.users.sync import fetch_profile, sync
from guildhall.web.body import Sent
from guildhall.web.caller import Caller, Guest, check_alive
from guildhall.web.docs import facts
from guildhall.web.lists import DOWNLOAD_S


@post(
    "/api/users/sync",
    summary="Make oneself known, or take over a changed profile",
    opt=facts(Unavailable, limits=("sync",), also={200: UserProfile}),
)
async def sync_user(caller: NamedDependency[Caller]) -> Response[UserProfile]:
    profile = await fetch_profile(caller.service, caller.user)
    async with caller.db.writing() as tx:
        own, new = await sync(tx, caller, profile)
    return Response(UserProfile.own(own), status_code=201 if new else 200)


@get(
    "/api/members/{user_id:str}/profile",
    summary="Read a profile",
    opt=facts(NotFound, limits=("profile",)),
)
async def read_profile(caller: NamedDependency[Caller], user_id: str) -> UserProfile:
    async with caller.db.reading() as read:
        row = await profiles.find_profile(read, caller, user_id)
    return UserProfile.own(row) if isinstance(row, Own) else UserProfile.of(row)


@patch(
    "/api/members/{user_id:str}/profile",
    summary="Change one's profile",
    opt=facts(Forbidden, NotFound),
)
async def change_profile(
    caller: NamedDependency[Caller], user_id: str, data: Sent[ChangeProfile]
) -> UserProfile:
    async with caller.db.writing() as tx:
        await profiles.lock_own(tx, caller, user_id)
        row = await profiles.change(tx, caller, data.read())
    return UserProfile.own(row)


@get(
    "/api/users/me/export",
    status_code=202,
    summary="Ask for an archive of one's data",
    opt=facts(Forbidden, TooManyRequests, answers=Export, changes=True),
)
async def export_me(request: Request[Any, Any, Any], caller: NamedDependency[Caller]) -> Response[Any]:
    service = caller.service
    if request.scope["state"]["head"]:
        # Only a GET asks for one.
        async with caller.db.reading() as read:
            await check_alive(read, caller)
        return Response(None, status_code=202)
    async with caller.db.writing() as tx:
        row = await exports.ask(tx, caller)
    asked = Export(
        status="ready" if row.ready else "queued",
        requested_at=row.requested_at,
        url=exports.link(service.keys, service.public_url, row.id) if row.ready else None,
    )
    return Response(asked, status_code=202)


@get(
    "/api/exports/{token:str}",
    summary="Open an archive by its link",
    opt=facts(NotFound, Unavailable, media="application/octet-stream", answers=bytes),
)
async def open_export(request: Request[Any, Any, Any], guest: NamedDependency[Guest], token: str) -> Stream:
    async with guest.db.reading() as read:
        name = await exports.find_archive(read, guest.service.keys, token)
    request.scope["state"]["outlast"](DOWNLOAD_S)
    opened = await guest.service.blobs.open(name)
    return Stream(
        opened.chunks,
        media_type="application/json; charset=utf-8",
        headers={
            "Content-Disposition": f"attachment; filename={json.dumps(exports.FILENAME)}",
            "Content-Length": str(opened.size_bytes),
        },
    )


@delete(
    "/api/users/me",
    status_code=204,
    summary="Erase oneself",
    opt=facts(erasure.SoleOwner),
)
async def erase_me(caller: NamedDependency[Caller]) -> Response[None]:
    async with caller.db.writing() as tx:
        await erasure.erase(tx, caller)
    name, value = no_cookie()
    return Response(None, headers={name.decode(): value.decode()} if caller.session else None)


ROUTES: list[HTTPRouteHandler] = [
    sync_user,
    read_profile,
    change_profile,
    export_me,
    open_export,
    erase_me,
]
