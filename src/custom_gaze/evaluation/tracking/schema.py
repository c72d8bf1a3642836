"""An SQLite store's tables looked over before MLflow opens them: their version, half made ones."""

import shlex
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from custom_gaze.evaluation.tracking.addresses import address_of

HALF_MADE = "_alembic_tmp_"  # Alembic's prefix of a table that is to replace another


@dataclass(frozen=True)
class Condition:
    """What an SQLite store holds, and what is wrong with it."""

    runs: int | None  # None: it cannot be told
    problem: str | None = None
    advice: str | None = None


def look_at(database: Path) -> Condition:
    """Read a store's version and number of runs; nothing in it is changed."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
            tables = [row[0] for row in opened.execute("SELECT name FROM sqlite_master")]
            (runs,) = opened.execute("SELECT count(*) FROM runs").fetchone()
            has_version = "alembic_version" in tables
            versions = opened.execute("SELECT * FROM alembic_version") if has_version else ()
            version = next((str(row[0]) for row in versions), None)
    except sqlite3.Error as error:
        problem = f"{database}: cannot be read as MLflow's store ({error})"
        return Condition(None, problem, _move_away(database))
    newest, known = _schema_versions()
    half_made = [name for name in tables if name.startswith(HALF_MADE)]
    if half_made:
        name = half_made[0]
        problem = f"{database}: its tables are half changed ({name}), as by a killed upgrade"
        lost = [name for name in half_made if name.removeprefix(HALF_MADE) not in tables]
        advice = _move_away(database) if lost else _mend(database, runs, half_made)
        return Condition(runs, problem, advice)
    if version == newest:
        return Condition(runs)
    if version is not None and version not in known:
        problem = f"{database}: was written by a newer MLflow (its tables are {version})"
        return Condition(runs, problem, "pip install --upgrade mlflow")
    problem = f"{database}: its tables are of an older MLflow ({version}, here {newest})"
    return Condition(runs, problem, _mend(database, runs, []))


def _move_away(database: Path) -> str:
    path = str(database)
    return f"move it away, the next run makes a new one: {shlex.join(['mv', path, path + '.old'])}"


def _mend(database: Path, runs: int, half_made: list[str]) -> str:
    """A command that brings the tables up to date, and keeps the file as it was beside it."""
    if not runs:
        return _move_away(database)
    path = str(database)
    commands = [["cp", path, f"{path}.old"]]
    if half_made:
        drops = "; ".join(f'DROP TABLE "{name}"' for name in half_made)
        code = f"import sqlite3; sqlite3.connect({path!r}).executescript({drops!r})"
        commands.append(["python", "-c", code])
    commands.append(["mlflow", "db", "upgrade", address_of(database)])
    return " && ".join(shlex.join(command) for command in commands)


@cache
def _schema_versions() -> tuple[str | None, set[str]]:
    """The newest version of the tables that the installed MLflow knows, and all of them."""
    from importlib.util import find_spec

    from alembic.script import ScriptDirectory

    found = find_spec("mlflow")
    assert found is not None
    assert found.origin is not None
    scripts = ScriptDirectory(str(Path(found.origin).parent / "store" / "db_migrations"))
    return scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
