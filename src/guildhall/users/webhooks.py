"""`/api/webhooks/clerk`: what Clerk tells of people without being asked."""

from typing import Any

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from guildhall.errors import NotFound
from guildhall.providers.identity import BadWebhook, Clerk
from guildhall.users import erasure
from guildhall.users.accounts import follow
from guildhall.web.caller import Guest
from guildhall.web.docs import facts
from guildhall.web.log import logger


def _clerk(guest: Guest) -> Clerk:
    """Raises NotFound where nothing is taken from Clerk."""
    clerk = guest.service.clerk
    if clerk is None or not clerk.webhook_secrets:
        raise NotFound
    return clerk


@post(
    "/api/webhooks/clerk",
    status_code=204,
    summary="Take a delivery from Clerk",
    opt=facts(NotFound, BadWebhook),
)
async def take_clerk_delivery(request: Request[Any, Any, Any], guest: NamedDependency[Guest]) -> None:
    clerk = _clerk(guest)
    # Its library comes with an extra that only installations with Clerk have.
    from guildhall.providers.identity.webhooks import read_webhook

    state: Any = request.scope["state"]
    try:
        event = read_webhook(dict(request.headers), state["raw_body"], clerk.webhook_secrets)
    except BadWebhook as error:
        logger().warning("webhook refused", cause=error.cause, request_id=guest.request_id)
        raise
    async with guest.db.writing() as tx:
        # A repeat waits for the first to commit, and then changes nothing.
        new = await tx.run(
            "INSERT INTO webhook_deliveries (id) VALUES ($1) ON CONFLICT DO NOTHING", event.delivery_id
        )
        if not new:
            return
        if event.profile is not None:
            # Only people who came here are kept; a first sync makes the others.
            await follow(tx, clerk.issuer, event.profile)
        elif event.type == "user.deleted" and event.user_id is not None:
            await erasure.erase_departed(tx, guest, clerk.issuer, event.user_id)


ROUTES: list[HTTPRouteHandler] = [take_clerk_delivery]
