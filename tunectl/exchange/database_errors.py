"""What the libraries raise with which other tools reach their databases."""

from __future__ import annotations


def database_errors() -> tuple[type[Exception], ...]:
    """The errors of SQLAlchemy and Alembic; raises ImportError without them, whom MLflow and Optuna need themselves."""
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, CommandError
