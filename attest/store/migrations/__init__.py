"""Alembic migrations of the service's database. How a change of tables is made: ``docs/adr/0035-migrations.md``."""
