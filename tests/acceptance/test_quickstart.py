"""`hpo run studies/quickstart.toml` on the embedded server, and every command for a finished study."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.text import Text
from support.shell import ROOT, Shell

import hpo
from benchmarks.picture import last_state, run_on_terminal
from hpo.cli.json_outputs import check
from hpo.data import open_dataset
from hpo.settings import PYTHON
from hpo.store.server import stop_server

pytestmark = pytest.mark.xdist_group("quickstart")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Yield a user in a folder with the study files, whose only setting is the home folder."""
    with TemporaryDirectory(prefix="hpo-", ignore_cleanup_errors=True) as home:
        shell = Shell(tmp_path_factory.mktemp("user"), {"HPO_HOME": home})
        shutil.copytree(ROOT / "studies", shell.folder / "studies")
        yield shell
        stop_server(Path(home) / "postgres")


@pytest.fixture(scope="module")
def first(user: Shell) -> subprocess.CompletedProcess[str]:
    return user.hpo("run", "studies/quickstart.toml")


@pytest.fixture
def bundle(first: subprocess.CompletedProcess[str]) -> Path:
    match = re.search(r"^Bundle: (.+)$", first.stdout, re.MULTILINE)
    assert match, first.stdout
    return Path(match[1])


def test_run_ends_with_the_test_accuracy_and_the_bundle(
    first: subprocess.CompletedProcess[str], bundle: Path
) -> None:
    match = re.search(
        r"Test accuracy ([\d.]+)% \(95% interval ([\d.]+)% to ([\d.]+)%, n = 360\)", first.stdout
    )
    assert match, first.stdout
    accuracy, low, high = map(float, match.groups())
    assert low < accuracy < high
    assert accuracy > 90
    assert bundle.is_dir()


def test_second_run_does_nothing(user: Shell, bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.iterdir()}
    again = user.hpo("run", "studies/quickstart.toml")
    assert "nothing to do" in again.stderr
    assert "Test accuracy" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in bundle.iterdir()} == before


@pytest.mark.slow
def test_outputs_are_as_documented(user: Shell, bundle: Path) -> None:
    test = open_dataset("digits", user.folder).load_test()
    Image.fromarray(test.images[0]).save(user.folder / "one.png")
    for command, arguments in {
        "run": ("studies/quickstart.toml",),
        "status": ("quickstart",),
        "export": ("quickstart",),
        "promote": ("quickstart",),
        "report": ("quickstart",),
        "predict": (str(bundle), "one.png"),
        "server status": (),
        "server url": (),
    }.items():
        check(command, user.hpo(*command.split(), *arguments, "--json").stdout)


def test_status_is_watched_on_a_terminal(user: Shell, bundle: Path) -> None:
    output = run_on_terminal([*PYTHON, "-m", "hpo", "status", "quickstart", "--watch"], user.environment)
    assert "\x1b[?1049h" not in output  # the last state stays on the terminal
    lines = [Text.from_ansi(line).plain.rstrip() for line in last_state(output)]
    assert "Study quickstart: finished" in lines
    assert any(line.startswith("search ") and "16 of 16 trials" in line for line in lines)
    assert any(line.startswith("full ") and "4 of 4 trainings" in line for line in lines)
    assert "finished; next: hpo export quickstart --bundle DIR" in lines


def test_worker_of_a_finished_study_says_that_it_has_nothing_to_do(user: Shell, bundle: Path) -> None:
    done = user.hpo("worker", "quickstart")
    assert done.stderr == "nothing to do: study quickstart has no open trial\n"


def test_status_counts_every_trial(user: Shell, bundle: Path) -> None:
    status = json.loads(user.hpo("status", "quickstart", "--json").stdout)
    search, full = status["search"], status["full"]
    assert status["study"] == "quickstart"
    assert search["budget"] == search["distinct_cells"] == sum(search["states"].values()) == 16
    assert search["states"].keys() == {"WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"}
    assert search["states"]["WAITING"] == search["states"]["RUNNING"] == 0
    assert search["states"]["PRUNED"] > 0
    assert full["budget"] == full["states"]["COMPLETE"] == 4
    assert full["distinct_cells"] == 2
    assert full["best"]["params"].keys() == {"lr", "batch_size", "momentum", "weight_decay"}
    assert search["device_seconds"] > 0
    assert full["device_seconds"] > 0
    assert "RUNNING" in user.hpo("status", "quickstart").stdout


def test_parameters_are_exported_in_every_format(user: Shell, bundle: Path) -> None:
    def export(form: str) -> str:
        return user.hpo("export", "quickstart", "--format", form).stdout

    params = json.loads(export("json"))
    assert params == json.loads(user.hpo("status", "quickstart", "--json").stdout)["full"]["best"]["params"]
    assert tomllib.loads(export("toml")) == yaml.safe_load(export("yaml")) == params
    shell = subprocess.run(
        ["sh", "-c", f"{export('env')}\necho $LR $BATCH_SIZE"], text=True, capture_output=True, check=True
    )
    assert [float(word) for word in shell.stdout.split()] == [params["lr"], params["batch_size"]]
    words = shlex.split(export("args"))
    assert float(words[words.index("--weight-decay") + 1]) == params["weight_decay"]


def test_bundle_is_written_to_the_given_folder(user: Shell, bundle: Path) -> None:
    done = user.hpo("export", "quickstart", "--bundle", "mine")
    assert done.stdout.strip() == "mine"
    metrics = json.loads((user.folder / "mine" / "metrics.json").read_text())
    assert metrics == json.loads((bundle / "metrics.json").read_text())
    assert sum(map(sum, metrics["confusion"])) == metrics["n"] == 360
    origin = json.loads((user.folder / "mine" / "provenance.json").read_text())
    assert origin["study"] == "quickstart"
    assert origin["data_sha256"] == open_dataset("digits", user.folder).load_train().sha256()


def test_bundle_predicts_characters(user: Shell, bundle: Path) -> None:
    test = open_dataset("digits", user.folder).load_test()
    files = []
    for index in range(10):
        files.append(f"{index}.png")
        Image.fromarray(test.images[index]).save(user.folder / files[-1])
    named = json.loads(user.hpo("predict", str(bundle), *files, "--json").stdout)
    correct = [
        entry["ranking"][0]["class"] == str(label) for entry, label in zip(named, test.labels, strict=False)
    ]
    assert sum(correct) >= 9
    lines = user.hpo("predict", str(bundle), *files).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == files

    loaded = hpo.load_bundle(bundle)
    assert isinstance(loaded, hpo.Bundle)
    probabilities = loaded.predict(test.images[:10])
    assert probabilities.shape == (10, 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert [loaded.classes[i] for i in probabilities.argmax(axis=1)] == [
        entry["ranking"][0]["class"] for entry in named
    ]


def test_evaluation_gives_the_metrics_of_the_bundle(user: Shell, bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    done = user.hpo("evaluate", str(bundle), "--json", "--analysis", "errors")
    found = json.loads(done.stdout)
    assert found["metrics"] == json.loads((bundle / "metrics.json").read_text())
    assert (found["data"], found["part"]) == ("digits", "test")
    assert done.stderr.startswith("the test part of digits is read once more")
    assert "360 examples of the test part of digits" in (user.folder / "errors" / "errors.md").read_text()
    figures = json.loads((user.folder / "errors" / "errors.json").read_text())
    assert figures["errors"] == round(360 * (1 - found["metrics"]["accuracy"]))

    both = user.hpo("evaluate", str(bundle), "--part", "all")
    assert re.match(r"digits, both parts: accuracy [\d.]+% \(.*, n = 1,797\)\nloss ", both.stdout)
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before


def test_evaluation_names_what_it_cannot_do(user: Shell, bundle: Path) -> None:
    (user.folder / "letters.py").write_text(
        "import numpy as np\n\n\ndef load():\n"
        "    images, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4) % 2\n"
        "    return images, labels, images, labels, ['0', 'x']\n"
    )
    for arguments, message in (
        (("nowhere",), "nowhere: no such folder; a bundle is one, as `hpo export` writes it"),
        (
            (str(bundle), "--data", "letters:load"),
            "letters:load: has 1 of 2 classes that the model lacks: 'x'; "
            "the model knows '0', '1', '2', '3', '4' and 5 more",
        ),
        ((str(bundle), "--analysis", "studies"), "studies: is no folder of an analysis: choose a new folder"),
    ):
        done = user.hpo("evaluate", *arguments, expect=2)
        (line,) = done.stderr.splitlines()
        assert line.startswith("hpo: ")
        assert message in line
        assert done.stdout == ""


def test_studies_are_listed_and_shown(user: Shell, bundle: Path) -> None:
    assert "quickstart" in user.hpo("study", "list").stdout
    shown = json.loads(user.hpo("study", "show", "quickstart", "--json").stdout)
    assert shown["spec"]["model"]["name"] == "lenet"
    assert "PRUNED" in user.hpo("study", "show", "quickstart").stdout


def test_doctor_finds_nothing_wrong(user: Shell, bundle: Path) -> None:
    subjects = ["versions", "machine", "storage", "home", "artifacts", "data"]
    for option, more in ((), []), (("--device",), ["devices"]):
        findings = json.loads(user.hpo("doctor", "--json", *option).stdout)
        assert [finding["subject"] for finding in findings] == subjects + more
        assert all(finding["good"] for finding in findings)


@pytest.mark.parametrize("mode", [(), ("--writable",)])
def test_dashboard_shows_the_trials_in_a_browser(user: Shell, bundle: Path, mode: tuple[str, ...]) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    server = user.start("dashboard", "--port", "0", *mode)
    try:
        assert server.stdout is not None
        line = next(line for line in server.stdout if line.startswith("dashboard: "))
        url = line.split()[1]
        assert url.startswith("http://127.0.0.1:")
        with urlopen(f"{url}api/studies") as answer:
            studies = {
                study["study_name"]: study["study_id"] for study in json.load(answer)["study_summaries"]
            }
        assert studies.keys() == {"quickstart", "quickstart-full"}
        page = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
                *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
                f"--user-data-dir={user.folder / 'browser'}",
                *("--virtual-time-budget=20000", "--dump-dom"),
                f"{url}dashboard/studies/{studies['quickstart']}/trials",
            ],
            text=True,
            capture_output=True,
            timeout=120,
            check=True,
        ).stdout
        assert all(f"Trial {number}" in page for number in (0, 15))
        assert "Pruned" in page
    finally:
        server.terminate()
        server.wait(30)
