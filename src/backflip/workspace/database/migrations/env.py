"""Run by Alembic: migrates on the connection that `migrations.upgrade` hands over."""

from alembic import context

from backflip.workspace.database.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
