"""Addresses as they may be shown."""

from __future__ import annotations

import pytest

from tunectl.exchange.database_addresses import masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mysql://me:secret@host/db", "mysql://me:***@host/db"),
        ("postgresql+psycopg2://me:p@ss/wo:rd@host:5432/db", "postgresql+psycopg2://me:***@host:5432/db"),
        ("mysql://:secret@host/db", "mysql://:***@host/db"),
        ("Could not parse 'mysql://me:secret@host'", "Could not parse 'mysql://me:***@host'"),
        ("mysql://host/db?user=me&password=secret&x=1", "mysql://host/db?user=me&password=***&x=1"),
        ("mysql://me@host:3306/db", "mysql://me@host:3306/db"),
        ("sqlite:///runs/a@b.db", "sqlite:///runs/a@b.db"),
        ("theirs.db", "theirs.db"),
    ],
)
def test_a_password_is_not_shown_and_all_else_is(address, shown):
    assert masked(address) == shown
