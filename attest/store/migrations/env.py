"""What Alembic runs: the revisions, on the connection that :mod:`attest.store.migrate` has opened and will commit."""

from __future__ import annotations

from alembic import context


def _run() -> None:
    # One transaction for all revisions, in SQLite too: half an upgrade is none.
    context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


_run()
