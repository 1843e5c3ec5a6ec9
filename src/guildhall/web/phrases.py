"""What the published descriptions of both APIs say in the same words everywhere."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

# What a path parameter is, by its name.
PATH_WORDS: Mapping[str, str] = {
    "community_id": "The community's id, or its slug.",
    "hub_id": "The hub's id, or a slug it has or had.",
    "token": "The token at the end of an invite's link.",
}

PHRASES: Mapping[int, str] = {
    200: "Done.",
    201: "Made.",
    202: "Accepted; it is done soon.",
    204: "Done; there is nothing to say.",
    304: "What If-None-Match names is still the answer.",
    400: "The request is not well formed.",
    401: "There is no valid session.",
    403: "The caller may not do this.",
    404: "There is no such thing, or it is not visible to the caller.",
    409: "The present state does not allow this.",
    410: "It was there, but is no more.",
    413: "The body is too large.",
    415: "The body is not of a type this route takes.",
    422: "An Idempotency-Key was used again for something else.",
    429: "Too many requests.",
    503: "The service cannot answer just now.",
}

SECURITY: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A session's token, or an API key: `Authorization: Bearer …`.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__session",
        "description": "The session cookie of a browser. A change must come from an allowed origin.",
    },
}
HEADERS: Json = {
    "RequestId": {
        "description": "Names this request in the service's log.",
        "schema": {"type": "string"},
        "example": "0195e3a81f2d71be9627d8eafb0c1d2e",
    },
    "ETag": {
        "description": "Send it as If-None-Match to ask whether the answer has changed.",
        "schema": {"type": "string"},
        "example": 'W/"5f2c9a7b1e3d4c6f8a0b1c2d"',
    },
    "RetryAfter": {
        "description": "How many seconds to wait.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 3,
    },
    "RateLimitLimit": {
        "description": "So many calls at once the scarcest limit lets through; absent without any limits.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 200,
    },
    "RateLimitRemaining": {
        "description": "How many of them are left.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 199,
    },
    "RateLimitReset": {
        "description": "When all of them are again, in Unix seconds.",
        "schema": {"type": "integer"},
        "example": 1_772_357_401,
    },
    "Challenge": {
        "description": "How to authenticate.",
        "schema": {"type": "string"},
        "example": 'Bearer realm="guildhall"',
    },
}

IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to send the request again: for 24 hours the same key answers the same.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]*$"},
    "example": "7f9c2ba4-e88f-4d5a-b2f6-0c1d2e3f4a5b",
}
IF_NONE_MATCH: Json = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an answer that you have; 304 says that it still holds.",
    "schema": {"type": "string"},
    "example": 'W/"5f2c9a7b1e3d4c6f8a0b1c2d"',
}
