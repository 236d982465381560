"""Bad input gives one line, an exit code above zero and no side effects."""

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import URL
from support.refusals import assert_nothing_created, assert_one_line
from support.shell import SMALL_STUDY, Shell

MISTAKES = {
    "not TOML": ("seed = 1", "seed = = 1", "not valid TOML"),
    "unknown section": ("[search]", "[serch]", "serch: unknown key; did you mean 'search'?"),
    "unknown key": ("trials = 12", "trails = 12", "search.trails: unknown key; did you mean 'trials'?"),
    "wrong type": ("trials = 12", 'trials = "12"', 'search.trials = "12": must be a whole number'),
    "out of range": ("epochs = 3", "epochs = 0", "search.epochs = 0: must be at least 1"),
    "unknown model": ('name = "lenet"', 'name = "lenett"', "lenett"),
    "unknown data set": ('name = "digits"', 'name = "digit"', "digit"),
    "unknown sampler": ('"random"', '"grid"', 'sampler.name = "grid"'),
    "impatient": ("[search]", "[stop]\npatience = 0\n[search]", "stop.patience = 0: must be at least 1"),
    "empty choices": ("lr = [1e-3, 1e-2, 1e-1]", "lr = []", "space.lr: needs at least one choice"),
    "reversed range": ("lr = [1e-3, 1e-2, 1e-1]", "lr = { low = 1, high = 0.1 }", "space.lr: low (1.0)"),
    "negative rate": ("lr = [1e-3, 1e-2, 1e-1]", "lr = [-0.1]", "space.lr: -0.1 is not a number above 0"),
}


@pytest.mark.parametrize(("right", "wrong", "message"), MISTAKES.values(), ids=MISTAKES)
def test_malformed_study_file_is_refused_in_one_line(
    shell: Shell, database: URL, right: str, wrong: str, message: str
) -> None:
    assert right in SMALL_STUDY
    shell.write("bad.toml", SMALL_STUDY.replace(right, wrong, 1))
    done = shell.hpo("run", "bad.toml", expect=2)
    assert_one_line(done.stderr, message)
    assert done.stdout == ""
    assert_nothing_created(shell, database)


def test_missing_study_file_is_named(shell: Shell, database: URL) -> None:
    assert_one_line(shell.hpo("run", "none.toml", expect=2).stderr, "none.toml: cannot read the study file")
    assert_nothing_created(shell, database)


def test_missing_data_set_is_named_with_the_way_out(shell: Shell, database: URL) -> None:
    shell.write("emnist.toml", SMALL_STUDY.replace('"digits"', '"emnist-byclass"'))
    done = shell.hpo("run", "emnist.toml", expect=1)
    assert_one_line(done.stderr, "hpo data fetch emnist-byclass")
    assert_nothing_created(shell, database)


def test_truncated_image_file_is_named(shell: Shell, database: URL) -> None:
    raw = shell.folder / "home" / "data" / "EMNIST" / "raw"
    write_emnist(raw)
    images = raw / "emnist-byclass-train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1000])
    shell.write("emnist.toml", SMALL_STUDY.replace('"digits"', '"emnist-byclass"'))
    done = shell.hpo("run", "emnist.toml", expect=1)
    assert_one_line(done.stderr, images.name)
    assert_nothing_created(shell, database)


def write_emnist(raw: Path) -> None:
    """Write well-formed files with few images, all black."""
    raw.mkdir(parents=True)
    for part in ("train", "test"):
        labels = np.repeat(np.arange(62, dtype=np.uint8), 50)
        header = len(labels).to_bytes(4, "big")
        side = (28).to_bytes(4, "big")
        images = bytes(28 * 28 * len(labels))
        file = raw / f"emnist-byclass-{part}"
        Path(f"{file}-images-idx3-ubyte").write_bytes((2051).to_bytes(4, "big") + header + side * 2 + images)
        Path(f"{file}-labels-idx1-ubyte").write_bytes((2049).to_bytes(4, "big") + header + labels.tobytes())


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", 1, "refused"),
        ("sqlite:///study.db", 2, "sqlite is refused"),
        ("mysql://root@localhost/none", 2, "'mysql' is not supported"),
        ("nonsense", 2, "HPO_STORAGE_URL: not a database URL"),
    ],
)
def test_unreachable_storage_is_reported_in_one_line(shell: Shell, url: str, code: int, message: str) -> None:
    elsewhere = Shell(shell.folder, {"HPO_STORAGE_URL": url})
    assert_one_line(elsewhere.hpo("run", "small.toml", expect=code).stderr, message)
    assert {path.name for path in shell.folder.iterdir()} == {"small.toml", "home"}
    # The images may have been read and mapped, which helps the next try.
    assert {path.name for path in (shell.folder / "home").iterdir()} - {"arrays"} == {"programs"}


def test_wrong_password_is_reported_and_not_printed(shell: Shell, tcp_postgres: URL) -> None:
    wrong = tcp_postgres.set(password="not-the-password", drivername="postgresql")
    elsewhere = Shell(shell.folder, {"HPO_STORAGE_URL": wrong.render_as_string(hide_password=False)})
    done = elsewhere.hpo("run", "small.toml", expect=1)
    assert_one_line(done.stderr, "password authentication failed")
    assert "not-the-password" not in done.stderr


def test_changed_study_is_refused_with_the_way_out(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    shell.write("small.toml", SMALL_STUDY.replace("epochs = 3", "epochs = 4"))
    done = shell.hpo("run", "small.toml", expect=2)
    assert_one_line(done.stderr, "search.epochs = 4: the stored study 'small' has 3")
    assert "hpo study delete small" in done.stderr
    shell.write("small.toml", SMALL_STUDY.replace("trials = 12", "trials = 14"))
    assert "extended, 2 trials queued" in shell.hpo("study", "create", "small.toml").stderr
    assert json.loads(shell.hpo("status", "small", "--json").stdout)["search"]["budget"] == 14
    shell.hpo("study", "delete", "small", "--yes")
    assert_one_line(shell.hpo("status", "small", expect=2).stderr, "no study 'small'")


def test_fork_is_refused_with_the_reason(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    assert_one_line(
        shell.hpo("study", "fork", "smal", "small.toml", expect=2).stderr, "did you mean 'small'?"
    )
    done = shell.hpo("study", "fork", "small", "small.toml", expect=2)
    assert_one_line(done.stderr, "small.toml: name = 'small': is the study to fork")
    shell.write("deep.toml", SMALL_STUDY.replace("epochs = 3", "epochs = 4"))
    done = shell.hpo("study", "fork", "small", "deep.toml", expect=2)
    assert_one_line(done.stderr, "deep.toml: search.epochs = 4: the study 'small' has 3")
    shell.write("bad.toml", SMALL_STUDY.replace("trials = 12", "trials = 0"))
    done = shell.hpo("study", "fork", "small", "bad.toml", expect=2)
    assert_one_line(done.stderr, "bad.toml: search.trials = 0: must be at least 1")
    assert [entry["study"] for entry in json.loads(shell.hpo("study", "list", "--json").stdout)] == ["small"]
    shell.write("wide.toml", SMALL_STUDY.replace("lr = [1e-3, 1e-2, 1e-1]", "lr = [1e-2, 1e-1, 0.5]"))
    done = shell.hpo("study", "fork", "small", "wide.toml")
    assert_one_line(
        done.stderr, "study wide: created; 0 finished trials of small fit, 0 do not; 12 trials queued"
    )


def test_stop_and_resume_report_what_they_did(shell: Shell) -> None:
    for command in ("stop", "resume"):
        assert_one_line(shell.hpo("study", command, "small", expect=2).stderr, "no study 'small'")
    shell.hpo("study", "create", "small.toml")
    left = "0 trials to finish, 12 waiting"
    stopped = f"study small stopped; {left}\nto continue: hpo study resume small\n"
    assert shell.hpo("study", "stop", "small").stderr == stopped
    again = shell.hpo("study", "stop", "small", "--search").stderr
    assert again.startswith(f"the search of study small was stopped already; {left}\n")
    assert "small: all stopped: stopped by hand" in shell.hpo("study", "list").stdout
    assert "# search stopped: stopped by hand" in shell.hpo("study", "show", "small").stdout
    resumed = f"study small resumed; {left}\nnext: hpo workers small\n"
    assert shell.hpo("study", "resume", "small").stderr == resumed
    assert shell.hpo("study", "resume", "small").stderr == resumed.replace("resumed", "was not stopped")


def test_missing_device_is_named(shell: Shell) -> None:
    shell.hpo("study", "create", "small.toml")
    assert_one_line(
        shell.hpo("worker", "small", "--device", "cuda:99", expect=2).stderr, "--device 'cuda:99'"
    )
    assert_one_line(shell.hpo("workers", "small", "--gpus", "99", expect=2).stderr, "there is no GPU 99")
