"""The file with the lines of workers."""

from datetime import datetime, timedelta
from pathlib import Path

from hpo.run.worker_log import KEPT, WorkerLog, remove_logs

NOON = datetime(2026, 1, 2, 12, 0, 0)


def test_lines_are_written_with_their_time_and_shown(tmp_path: Path) -> None:
    shown: list[str] = []
    with WorkerLog(tmp_path / "logs" / "small", lambda: NOON) as log:
        write = log.writing(shown.append)
        write("[cpu/0] training 1")
        write("[cpu/0] odd \udc80 text")
        assert log.path is not None
        assert log.path.read_text() == "12:00:00 [cpu/0] training 1\n12:00:00 [cpu/0] odd ? text\n"
    write("too late")
    assert shown == ["[cpu/0] training 1", "[cpu/0] odd \udc80 text", "too late"]
    assert "late" not in log.path.read_text()


def test_old_files_are_deleted(tmp_path: Path) -> None:
    for hours in range(KEPT + 3):
        with WorkerLog(tmp_path, lambda hours=hours: NOON + timedelta(hours=hours)) as log:  # type: ignore[misc]
            newest = log.path
    files = sorted(tmp_path.iterdir())
    assert len(files) == KEPT
    assert files[-1] == newest


def test_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    shown: list[str] = []
    with WorkerLog(tmp_path / "logs" / "small") as log:
        assert log.path is None
        log.writing(shown.append)("a line")
    assert shown == ["a line"]


def test_files_of_a_deleted_study_are_deleted(tmp_path: Path) -> None:
    for name in ("small-0123abcd", "other-0123abcd"):
        with WorkerLog(tmp_path / name):
            pass
    remove_logs(tmp_path, ["small-0123abcd", "gone-0123abcd"])
    assert [folder.name for folder in tmp_path.iterdir()] == ["other-0123abcd"]
