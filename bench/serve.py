"""One of the servers, as a process: `python -m bench.serve NAME PORT`.

All are served by the service's own server with the same settings; only the application differs.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt

from guildhall.commands.server import serve_http
from guildhall.instance import embedded_issuer, instance_keys
from guildhall.settings import Settings, read_settings


def _guildhall(_: Settings) -> Any:
    from guildhall.wiring import application

    return application()


def _floor(settings: Settings, *, pooled: bool = True) -> Any:
    from bench.floor import Floor

    assert settings.database.url is not None
    return Floor(settings.database.url, "user_000001", pooled=pooled)


def _orm(settings: Settings) -> Any:
    from bench.orm.app import build

    assert settings.database.url is not None
    issuer = embedded_issuer(instance_keys(settings))
    return build(settings.database.url, jwt.PyJWK(issuer.jwks()["keys"][0]).key, issuer.issuer)


APPLICATIONS: dict[str, Callable[[Settings], Any]] = {
    "guildhall": _guildhall,
    "floor": _floor,
    "floor without pool": partial(_floor, pooled=False),
    "orm": _orm,
}


def main(name: str, port: int) -> None:
    settings = read_settings(os.environ)
    load = APPLICATIONS[name]
    well = serve_http(
        settings, "127.0.0.1", port, closing=(), on_stop=lambda: None, load=lambda: load(settings)
    )
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
