"""The tenant that the running code acts for, in Python and in PostgreSQL at once.

`scope(tenant_id)` is the only way to name it. It sets a context variable, which the managers of
tenant models read, and `app.tenant_id` inside the running transaction, which row-level security
reads. The setting is always local to the transaction: a session setting would leak to the next
request through a connection pool.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connection, transaction

_current: ContextVar[uuid.UUID | None] = ContextVar("mailwright_tenant", default=None)


class ScopeMissing(RuntimeError):
    """A tenant's table was asked without naming the tenant: a bug, never a user's mistake."""


def current_tenant_id() -> uuid.UUID:
    """Return the tenant in scope; raises ScopeMissing where none is."""
    tenant_id = _current.get()
    if tenant_id is None:
        raise ScopeMissing("name the tenant with scope(tenant_id) before asking a tenant's table")
    return tenant_id


def tenant_id_or_none() -> uuid.UUID | None:
    """Return the tenant in scope, or None."""
    return _current.get()


def _tell_database(tenant_id: uuid.UUID | None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('app.tenant_id', %s, true)", [str(tenant_id) if tenant_id else ""]
        )


def _is_told(tenant_id: uuid.UUID) -> bool:
    """Tell whether the running transaction acts for this tenant already."""
    return _current.get() == tenant_id and connection.in_atomic_block


@contextmanager
def scope(tenant_id: uuid.UUID) -> Iterator[None]:
    """Act for one tenant, inside one transaction (a savepoint when one is open already).

    Leaving restores the tenant that was in scope before, in Python and in the database. What the
    database knows already it is not told again: each word is a round trip.
    """
    before = _current.get()
    is_nested, is_told = connection.in_atomic_block, _is_told(tenant_id)
    with transaction.atomic():
        if not is_told:
            _tell_database(tenant_id)
        token = _current.set(tenant_id)
        try:
            yield
        except BaseException:
            # Rolling back gives the database its old setting again; asking an aborted transaction
            # would only hide the error behind one of its own.
            _current.reset(token)
            raise
        _current.reset(token)
        # The setting ends with its transaction by itself.
        if is_nested and not is_told and not connection.needs_rollback:
            _tell_database(before)


@contextmanager
def joined_scope(tenant_id: uuid.UUID) -> Iterator[None]:
    """Act for one tenant in the transaction that does so already; where none does, in a `scope`.

    For a service that makes every check before its first write: with no savepoint of its own, an
    error leaves what was written to the transaction's owner.
    """
    if _is_told(tenant_id):
        yield
        return
    with scope(tenant_id):
        yield


def identify_user(user_id: int | None) -> None:
    """Tell the database whose memberships may be read in this transaction.

    A person's memberships are needed before a tenant can be named; their rows answer to
    `app.user_id` as well as to `app.tenant_id`.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.user_id', %s, true)", [str(user_id or "")])
