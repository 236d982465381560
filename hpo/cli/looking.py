"""Commands that look: status, dashboard, doctor, models; and shell completion."""

from pathlib import Path
from typing import Literal

import click
from click.shell_completion import get_completion_class

from hpo.cli.shared import as_json, command, json_result, opened, result, settings, study_name, words


@command("hpo status lenet\nhpo status lenet --json")
@study_name
@as_json
def status(name: str, as_json: bool) -> None:
    """Show where a study stands.

    Trials by state, the best so far, workers, device seconds.
    """
    from hpo.cli.tables import status_table
    from hpo.study import status as standing

    _, storage, study = opened(name)
    now = standing.status(storage, study)
    json_result(now.to_json()) if as_json else result(status_table(now))


@command("hpo dashboard --port 8080")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one."
)
def dashboard(host: str, port: int) -> None:
    """Serve optuna-dashboard on the same storage.

    It has no login: whoever reaches it can delete studies. Keep it on 127.0.0.1 or behind a proxy.
    """
    from hpo.store.connection import open_storage
    from hpo.web.dashboard import serve

    storage = open_storage(settings())
    serve(storage, host, port, lambda url: words(f"dashboard: {url} (stop with Ctrl-C)"))


@command("hpo doctor")
@as_json
def doctor(as_json: bool) -> None:
    """Check what the service needs.

    Storage, artifacts, data, devices, versions, and what to do about what is wrong. Exit code 1 if
    anything is.
    """
    from hpo.cli import doctor as examination

    findings = examination.examine(settings())
    if as_json:
        json_result([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            result(finding.line())
    if not all(finding.good for finding in findings):
        raise SystemExit(1)


@command("hpo models --classes 62")
@click.option(
    "--classes", type=click.IntRange(min=2), default=62, show_default=True, help="Classes they tell apart."
)
@click.option(
    "--channels", type=click.IntRange(min=1), default=1, show_default=True, help="Channels of an image."
)
@as_json
def models(classes: int, channels: int, as_json: bool) -> None:
    """List the networks.

    With their parameters, and the operations for a 28x28 image (a multiply-add counts as two).
    """
    from dataclasses import asdict

    from hpo.cli.tables import model_table
    from hpo.models import names
    from hpo.models.profile import profile

    profiles = [profile(name, classes, channels) for name in names()]
    json_result([asdict(entry) for entry in profiles]) if as_json else result(model_table(profiles))


@command("hpo tune lenet\nhpo tune resnet --batch-size 16 --batch-size 64 --json")
@click.argument("model")
@click.option(
    "--batch-size",
    "batch_sizes",
    type=click.IntRange(min=1),
    multiple=True,
    default=(16, 32, 64),
    show_default=True,
    help="May be given several times.",
)
@click.option("--classes", type=click.IntRange(min=2), default=62, show_default=True, help="It tells apart.")
@click.option("--channels", type=click.IntRange(min=1), default=1, show_default=True, help="Of an image.")
@click.option("--size", type=click.IntRange(min=1), default=28, show_default=True, help="Side of an image.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="As engine.precision in a study file.",
)
@click.option("--again", is_flag=True, help="Measure what is kept already, too.")
@as_json
def tune(
    model: str,
    batch_sizes: tuple[int, ...],
    classes: int,
    channels: int,
    size: int,
    precision: Literal["auto", "float32", "bfloat16"],
    again: bool,
    as_json: bool,
) -> None:
    """Find the fastest way to compute a network on this CPU.

    A search finds it by itself where it is long enough, and keeps it; what is found here is kept as well, for
    searches on this machine with a worker on each core. Images a second of one such worker.
    """
    from dataclasses import asdict

    import torch

    from hpo.cli.tables import tuning_table
    from hpo.launch.devices import slots
    from hpo.models import build
    from hpo.training.allocator import keep_freed
    from hpo.training.engines.autotuning import AutotunedEngine, throughputs
    from hpo.training.engines.program import Program
    from hpo.training.workload import check_network
    from hpo.values.precision import search_precisions

    check_network(model, lambda: build(model, classes, channels), (channels, size, size), classes)
    threads = int(slots("cpu", None)[0].environment["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)  # as a worker has
    keep_freed()
    like = Program(model, classes, channels, (size, size), 0, "evaluation")
    precisions = search_precisions(model) if precision == "auto" else (precision,)
    engine = AutotunedEngine(like, settings().programs_path, precisions, anew=again)
    found = throughputs(engine, batch_sizes)
    json_result([asdict(row) for row in found]) if as_json else result(tuning_table(model, found, threads))


@command("hpo replay benchmarks/tables/lenet.csv.gz studies/lenet.toml --workers 4")
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="That are simulated."
)
@click.option("--width", type=click.IntRange(min=1), help="Most trials of a pack. Default: as of a worker.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="So many replays, from seed 0 on.",
)
@as_json
def replay(table: Path, file: Path, workers: int, width: int | None, seeds: int, as_json: bool) -> None:
    """Try the search of a study file on a table of curves.

    Nothing is trained: every trial gets a curve of the TABLE, and a search is over in a second. It is the
    real one, with its sampler and pruner, on a database of its own. The regret is that of the best trial by
    then: 0 is the best cell of the table, 1 the median of all.
    """
    from dataclasses import asdict

    from hpo.cli.tables import replay_table
    from hpo.simulate import curve_table as tables
    from hpo.simulate.regret import standings
    from hpo.simulate.replay import replay as replayed
    from hpo.simulate.replay import scratch_storage
    from hpo.spec.study_spec import StudySpec
    from hpo.study.schedule import WIDTH

    spec, curves = StudySpec.load(file), tables.read(table)
    epochs = spec.search.epochs
    curves.check(spec.space, epochs, str(file))
    with scratch_storage() as storage:
        found = [
            replayed(storage, spec.model_copy(update={"seed": seed}), curves, workers, width or WIDTH)
            for seed in range(seeds)
        ]
    all_of_it = spec.search.trials * epochs
    budget = min(all_of_it, spec.stop.epochs or all_of_it)
    rows = {f"{share:.0%} of {budget} epochs": share * budget for share in (0.25, 0.5, 0.75, 1.0)}
    means = dict(zip(rows, standings(found, curves, epochs, list(rows.values())), strict=True))
    if as_json:
        json_result({row: {name: asdict(mean) for name, mean in its.items()} for row, its in means.items()})
        return
    title = f"{spec.name} on {table}: {seeds} replays, {workers} workers; mean and standard error"
    result(replay_table(title, means))


@command('eval "$(hpo completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from hpo.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    result(kind(cli, {}, "hpo", "_HPO_COMPLETE").source())
