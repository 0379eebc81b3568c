"""Migrations of the API's database (alembic); the version stands in a table of its own."""
