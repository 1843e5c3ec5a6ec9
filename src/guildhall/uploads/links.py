"""The address a file is sent to: it carries its own right, by a keyed MAC over the upload and its end."""

import hmac
from uuid import UUID

from guildhall.web.service import Service

_PURPOSE = "uploads"


def make(service: Service, upload_id: UUID, expires: int) -> str:
    """`expires` is in unix seconds."""
    signature = service.keys.macs(_PURPOSE, _signed(upload_id, expires))[0].hex()
    return f"{service.public_url}/api/uploads/{upload_id}?expires={expires}&signature={signature}"


def is_ours(service: Service, upload_id: UUID, expires: str, signature: str) -> bool:
    """Whether we signed this, under whichever key is still valid. Takes as long whatever is wrong."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12 and signature.isascii()):
        return False
    macs = service.keys.macs(_PURPOSE, _signed(upload_id, int(expires)))
    matches = [hmac.compare_digest(mac.hex(), signature) for mac in macs]
    return any(matches)


def _signed(upload_id: UUID, expires: int) -> bytes:
    return f"{upload_id}:{expires}".encode()
