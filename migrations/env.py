"""Alembic's entry: migrates over the connection it is given, inside the caller's transaction."""

from alembic import context

from connector.store import schema

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("run the migrations with `connector migrate`; it knows the store from the settings file")

context.configure(
    connection=connection,
    target_metadata=schema.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
context.run_migrations()
