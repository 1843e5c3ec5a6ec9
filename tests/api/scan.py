"""Looks for words in everything the database holds, whatever table and column it stands in."""

from collections.abc import Collection, Iterable

import asyncpg


async def find_everywhere(
    owner_url: str, words: Iterable[str], only: Collection[str] | None = None
) -> list[str]:
    """`table.column: word` for each place that holds one of the words, in any case; bytes are searched too.

    A hit in the queue's own log counts as well. `only` names the tables to look in.
    """
    found: list[str] = []
    connection = await asyncpg.connect(owner_url)
    try:
        columns = await connection.fetch(
            "SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, NULL) AS type"
            " FROM pg_class c"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
            " WHERE c.relkind IN ('r', 'p', 'm') AND c.relnamespace = 'public'::regnamespace"
        )
        assert columns
        for table, column, kind in columns:
            if only is not None and table not in only:
                continue
            text = f'"{column}"::text'
            if kind == "bytea":
                text = f"encode(\"{column}\", 'escape')"
            for word in words:
                if await connection.fetchval(
                    f'SELECT EXISTS (SELECT FROM "{table}" WHERE position(lower($1) IN lower({text})) > 0)',
                    word,
                ):
                    found.append(f"{table}.{column}: {word}")
    finally:
        await connection.close()
    return found
