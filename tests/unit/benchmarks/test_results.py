"""Results: their command, their tables, their JSON."""

import json
from pathlib import Path

import pytest

from benchmarks.results import Result, command, spread


def test_command_leaves_out_output_files() -> None:
    arguments = ["--quick", "--json", "/some/where/file.json", "--only", "hpo, hpo-asha", "--report=docs"]
    assert command("search", arguments) == "python -m benchmarks.search --quick --only 'hpo, hpo-asha'"


def test_command_leaves_out_a_report_without_a_file() -> None:
    arguments = ["--models", "lenet", "--report", "--json", "lenet.json", "--epochs", "20"]
    assert command("ablation", arguments) == "python -m benchmarks.ablation --models lenet --epochs 20"


def test_result_is_printed_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result.begin("search", "28 trials", 3)
    table = result.table("Seconds", ("search", "median s", "range"))
    seconds = [3.0, 1.0, 2.0]
    table.add("hpo", f"{result.median('hpo', seconds):.1f}", spread(seconds))
    result.values["seconds"] = seconds
    result.write(tmp_path / "result.json")

    raw = json.loads((tmp_path / "result.json").read_text())
    assert raw.keys() == {"benchmark", "setup", "n", "values", "medians", "origin", "tables"}
    assert raw["medians"] == {"hpo": 2.0}
    assert Result.from_json(raw).to_json() == raw
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == "28 trials; n = 3"
    assert second.startswith(raw["origin"]["hardware"])
    assert rest == [
        "",
        "Seconds",
        "search            median s         range",
        "hpo                    2.0  1.00 to 3.00",
    ]


def test_nothing_is_written_without_a_file() -> None:
    Result.begin("search", "28 trials", 3).write(None)


def test_table_as_markdown() -> None:
    table = Result.begin("search", "28 trials", 3).table("Seconds", ("search", "s"))
    table.add("hpo", "2.0")
    assert table.markdown() == "| search | s |\n| --- | --- |\n| hpo | 2.0 |\n"
