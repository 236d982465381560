import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hpo import errors
from hpo.cli import cli, main
from hpo.cli.deletion import confirm_deletion
from hpo.data import DataError
from hpo.models import ModelError

HEAVY = ("torch", "optuna", "sqlalchemy", "sklearn", "scipy", "numpy", "pydantic", "rich")


def commands(group: click.Group = cli, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command and group."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


COMMANDS = list(commands())


PACKAGES = ("hpo", "hpo.cli", "hpo.export", "hpo.run", "hpo.simulate", "hpo.web")


def title(path: tuple[str, ...]) -> str:
    return " ".join(("hpo", *path))


def examples(path: tuple[str, ...]) -> list[str]:
    """Return the lines under "Example:" in the help of a command."""
    done = CliRunner().invoke(cli, [*path, "--help"])
    assert done.exit_code == 0
    _, heading, section = done.output.partition("\nExample:\n")
    assert heading, done.output
    return [line.strip() for line in section.splitlines()]


def exit_code_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Return the exit code of `hpo` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["hpo", *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)  # or click says `python -m pytest`
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_commands_exist_on_both_levels() -> None:
    assert {(), ("run",), ("study",), ("study", "create")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=title)
def test_help_ends_with_examples_of_its_command(path: tuple[str, ...]) -> None:
    lines = examples(path)
    assert lines
    for line in lines:
        assert line.startswith((title(path), f'eval "$({title(path)}'))
    assert CliRunner().invoke(cli, [*path, "-h"]).exit_code == 0


@pytest.mark.parametrize("path", COMMANDS, ids=title)
def test_example_parses(path: tuple[str, ...]) -> None:
    for line in examples(path):
        for part in line.removeprefix('eval "$(').removesuffix(')"').split(" && "):
            words = shlex.split(part.partition(" > ")[0])[1:]
            command: click.Command = cli
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            # Under the context of `hpo`: click keeps the help options that a command first had.
            parent = click.Context(cli, **cli.context_settings)
            command.make_context("hpo", words, parent)  # raises for options or arguments that do not exist


@pytest.mark.parametrize("path", COMMANDS, ids=title)
def test_every_command_and_option_has_help(path: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in path:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert command.help
    assert command.get_short_help_str().endswith((".", "..."))
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


def loaded(code: str) -> set[str]:
    """Return the heavy packages that this code loads, run in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json, sys; print('\\n' + json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(HEAVY) & set(json.loads(done.stdout.splitlines()[-1]))


def test_import_of_the_command_line_loads_nothing_heavy() -> None:
    assert loaded("import hpo, hpo.cli") == set()


@pytest.mark.parametrize("path", COMMANDS, ids=title)
def test_help_loads_nothing_heavy(path: tuple[str, ...]) -> None:
    code = f"""
import sys
from hpo.cli import main
sys.argv = ["hpo", *{path!r}, "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""
    assert loaded(code) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_import_of_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded(f"import {package}") == set()


def test_command_line_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpo", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("hpo, version ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], "No such command 'serch'"),
        (["study", "drop"], "No such command 'drop'"),
        (["run"], "Missing argument 'FILE'"),
        (["run", "a.toml", "b.toml"], "unexpected extra argument (b.toml)"),
        (["workers", "lenet", "--gpu", "0"], "No such option '--gpu'"),
        (["workers", "lenet", "--per-device", "0"], "0 is not in the range x>=1"),
        (["worker", "lenet", "--width", "many"], "'many' is not a valid integer"),
        (["export", "lenet", "--format", "xml"], "'xml' is not one of 'json', 'toml', 'yaml', 'env', 'args'"),
        (["dashboard", "--port", "70000"], "70000 is not in the range 0<=x<=65535"),
        (["predict", "bundle"], "Missing argument 'IMAGE...'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_invalid_arguments_exit_with_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert exit_code_of(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Try 'hpo" in err


def test_missing_command_shows_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(monkeypatch) == 2
    assert "Commands:" in capsys.readouterr().err


RAISED = [
    (errors.HpoError("no such weights"), 1, ["no such weights"]),
    (errors.InputError("--gpus: wrong"), 2, ["--gpus: wrong"]),
    (errors.SpecError("a.toml: one\na.toml: two"), 2, ["a.toml: one", "a.toml: two"]),
    (errors.KeyInputError("data.mean", "too high"), 2, ["too high"]),
    (errors.ConflictError("changed"), 2, ["changed"]),
    (errors.NothingCompletedError("none completed"), 2, ["none completed"]),
    (errors.NotFoundError("no study"), 2, ["no study"]),
    (errors.DamagedStudyError("stored study"), 1, ["stored study"]),
    (errors.StorageError("refused"), 1, ["refused"]),
    (errors.UnavailableError("away"), 1, ["away"]),
    (errors.TrainingError("diverged"), 1, ["diverged"]),
    (errors.ArtifactError("not written"), 1, ["not written"]),
    (errors.ArtifactNameError("artifact name '..'"), 1, ["artifact name '..'"]),
    (errors.AwayError("the weights are away"), 1, ["the weights are away"]),
    (ModelError("no model"), 2, ["no model"]),
    (DataError("damaged"), 1, ["damaged"]),
]


def let_fail(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Add a command `fail` to `hpo`."""

    @click.command()
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.commands, "fail", fail)


@pytest.mark.parametrize(("error", "code", "lines"), RAISED, ids=lambda value: type(value).__name__)
def test_error_becomes_a_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    lines: list[str],
) -> None:
    let_fail(monkeypatch, error)
    assert exit_code_of(monkeypatch, "fail") == code
    assert capsys.readouterr() == ("", "".join(f"hpo: {line}\n" for line in lines))


def test_every_error_class_is_tested() -> None:
    known = {value for value in vars(errors).values() if isinstance(value, type)}
    assert known <= {type(error) for error, _, _ in RAISED}


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    let_fail(monkeypatch, errors.StorageError("refused"))
    assert exit_code_of(monkeypatch, option, "fail") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("hpo: refused\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    let_fail(monkeypatch, error)
    assert exit_code_of(monkeypatch, "fail") == 130
    assert capsys.readouterr().err.strip() == "stopped"


def test_exit_code_of_a_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    let_fail(monkeypatch, SystemExit(1))  # as `hpo doctor` does
    assert exit_code_of(monkeypatch, "fail") == 1
    let_fail(monkeypatch, click.exceptions.Exit(3))
    assert exit_code_of(monkeypatch, "fail") == 3


def test_unexpected_exception_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    let_fail(monkeypatch, ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["hpo", "fail"])
    with pytest.raises(ZeroDivisionError):
        main()


HPO = [sys.executable, "-m", "hpo"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize("arguments", [["data", "list"], ["--version"], ["data", "--help"]])
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*HPO, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "hpo: cannot write: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_message_that_cannot_be_written_keeps_the_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*HPO, "run", "none.toml"], stderr=full, check=False)
    assert done.returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_stream_counts_as_an_empty_one(closed: str) -> None:
    command = ["sh", "-c", f'"$0" -m hpo data list {closed}', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("mnist\n" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_text_that_the_terminal_does_not_know_is_escaped() -> None:
    code = "from hpo.cli.output import *; prepare_streams(); result(chr(0x2500) + chr(0xDCFF))"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "\\u2500\\udcff\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(2, "No such file or directory"), "the working directory has been deleted; "),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied\n"),
        (OSError(28, "No space left on device"), "cannot write: No space left on device\n"),
    ],
    ids=["deleted", "file", "full"],
)
def test_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, line: str
) -> None:
    monkeypatch.setattr("hpo.cli.discard_output", lambda: None)
    let_fail(monkeypatch, error)
    assert exit_code_of(monkeypatch, "fail") == 1
    assert capsys.readouterr().err.startswith(f"hpo: {line}")


def test_deletion_that_nobody_confirms_names_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(""))
    with pytest.raises(errors.InputError, match=r"hpo study delete small --yes$"):
        confirm_deletion("Delete?", "small")
    monkeypatch.setattr(sys, "stdin", StringIO("n\n"))
    with pytest.raises(click.Abort):
        confirm_deletion("Delete?", "small")
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    confirm_deletion("Delete?", "small")


def test_sigterm_counts_as_an_interrupt_before_workers_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "small.toml")
    process = subprocess.Popen([*HPO, "run", "small.toml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    with (tmp_path / "small.toml").open("w"):  # the command reads its study file
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "stopped")


def test_closed_pipe_ends_a_command_quietly() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "hpo", "data", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert (process.returncode, err) == (1, b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "none.toml"], "hpo: none.toml: cannot read the study file: No such file or directory"),
        (
            ["study", "create", "none.toml"],
            "hpo: none.toml: cannot read the study file: No such file or directory",
        ),
        (["run", "empty.toml"], "hpo: empty.toml: full: is missing"),
        (["workers", "lenet", "--gpus", "x"], "hpo: --gpus 'x': must be all, cpu, or ordinals such as 0,1"),
        (["status", "lenet"], "hpo: HPO_STORAGE_URL: sqlite is refused"),
        (["predict", "none", "a.png"], "hpo: none: no such folder"),
    ],
)
def test_invalid_input_is_one_line_and_creates_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_STORAGE_URL", "sqlite:///study.db")
    (tmp_path / "empty.toml").touch()
    assert exit_code_of(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith(message)
    assert all(line.startswith("hpo: ") for line in err.splitlines())
    assert {path.name for path in tmp_path.iterdir()} == {"empty.toml"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    assert exit_code_of(monkeypatch, "completion", shell) == 0
    script = capsys.readouterr().out
    assert f"_HPO_COMPLETE={shell}_complete" in script
    assert "hpo" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_completion_lists_the_commands_of_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "_HPO_COMPLETE": "bash_complete",
        "COMP_WORDS": "hpo study ",
        "COMP_CWORD": "2",
    }.items():
        monkeypatch.setenv(name, value)
    assert exit_code_of(monkeypatch) == 0
    commands = ["create", "fork", "list", "show", "stop", "resume", "retry", "delete"]
    assert capsys.readouterr().out.split() == [f"plain,{name}" for name in commands]


def test_data_list_names_emnist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(monkeypatch, "data", "list") == 0
    assert "emnist-byclass\n" in capsys.readouterr().out
