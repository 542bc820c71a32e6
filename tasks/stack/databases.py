"""The servers' databases: SQLite files, or two databases of one PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass

from raft_core.errors import InputError
from tasks.stack.config import StackConfig

SUFFIXES = ("prefect", "mlflow")


@dataclass(frozen=True, slots=True, repr=False)
class Databases:
    """Connection addresses, each in its server's own dialect; they may hold a password."""

    prefect: str
    mlflow: str


def open_databases(config: StackConfig, *, create: bool = False) -> Databases:
    """Return the addresses; on PostgreSQL `create` makes the databases that are missing.

    Both servers number their migrations in a table of the same name, so each has a database.

    Raises:
        InputError: DATABASE_URL is no address of PostgreSQL, or the server refuses the login.
    """
    if config.database_url is None:
        config.folder.mkdir(parents=True, exist_ok=True)
        return Databases(
            prefect=f"sqlite+aiosqlite:///{config.folder / 'prefect.db'}",
            mlflow=f"sqlite:///{config.home / 'mlflow.db'}",
        )
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(config.database_url.get_secret_value())
    except ArgumentError:
        raise InputError("DATABASE_URL: not an address; write postgresql://HOST/NAME") from None
    if url.get_backend_name() != "postgresql" or not url.database:
        raise InputError(
            f"DATABASE_URL: {url.render_as_string(hide_password=True)} is not postgresql://HOST/NAME"
        )
    own = {suffix: url.set(database=f"{url.database}_{suffix}") for suffix in SUFFIXES}
    if create:
        _create(url, [address.database or "" for address in own.values()])
    prefect, mlflow = (
        own[name].set(drivername=driver).render_as_string(hide_password=False)
        for name, driver in (("prefect", "postgresql+asyncpg"), ("mlflow", "postgresql+psycopg2"))
    )
    return Databases(prefect, mlflow)


def _create(url: object, names: list[str]) -> None:
    from sqlalchemy import URL, create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    assert isinstance(url, URL)
    # The named database need not exist: only the two derived from its name are used.
    anywhere = url.set(drivername="postgresql+psycopg2", database="postgres")
    engine = create_engine(anywhere, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            known = set(connection.scalars(text("SELECT datname FROM pg_database")))
            for name in names:
                if name not in known:
                    quoted = engine.dialect.identifier_preparer.quote(name)
                    connection.execute(text(f"CREATE DATABASE {quoted}"))
    except SQLAlchemyError as error:
        shown = url.render_as_string(hide_password=True)
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(f"DATABASE_URL {shown}: {reason}") from None
    finally:
        engine.dispose()
