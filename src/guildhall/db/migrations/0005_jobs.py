"""The job queue's own tables, as its library defines them."""

from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment
from yoyo import step  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

__depends__ = {"0004_service"}

step(QueryBuilderEnvironment().build_install_query())
