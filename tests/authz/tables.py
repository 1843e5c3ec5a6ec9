"""Every table there is. Whoever serves a new route gives it a row in one of them."""

from tests.authz.api import API
from tests.authz.v1 import V1

TABLES = (API, V1)
