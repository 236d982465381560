"""What a refused command leaves behind: one line."""

from __future__ import annotations

from sqlalchemy import URL, create_engine, inspect

from support.shell import Shell


def assert_one_line(text: str, message: str) -> None:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert message in lines[0]


def assert_nothing_created(shell: Shell, database: URL) -> None:
    engine = create_engine(database)
    assert inspect(engine).get_table_names() == []
    engine.dispose()
    assert not (shell.folder / "home" / "postgres").exists()
    assert not (shell.folder / "home" / "artifacts").exists()
