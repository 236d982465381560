"""Commands about this machine and installation: doctor, models, tune, completion."""

from typing import Literal

import click
from click.shell_completion import get_completion_class

from hpo.cli.command import as_json, command
from hpo.cli.output import json_result, result


@command("hpo doctor\nhpo doctor --device")
@click.option("--device", is_flag=True, help="Check the GPUs and torch, too. This takes some seconds.")
@as_json
def doctor(device: bool, as_json: bool) -> None:
    """Check the installation and say how to fix it.

    Versions, machine, storage, folders, data. Exit code 1 if anything is wrong.
    """
    from hpo.cli.doctor import examine
    from hpo.settings import Settings

    findings = examine(Settings.from_environment(), device)
    if as_json:
        json_result([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            result(finding.line())
    if not all(finding.good for finding in findings):
        raise SystemExit(1)


@command("hpo models --classes 62")
@click.option(
    "--classes", type=click.IntRange(min=2), default=62, show_default=True, help="Number of classes."
)
@click.option(
    "--channels", type=click.IntRange(min=1), default=1, show_default=True, help="Channels of an image."
)
@as_json
def models(classes: int, channels: int, as_json: bool) -> None:
    """List the networks.

    Number of parameters, and operations per 28x28 image (a multiply-add counts as two).
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
    help="Batch size to measure. May be given several times.",
)
@click.option(
    "--classes", type=click.IntRange(min=2), default=62, show_default=True, help="Number of classes."
)
@click.option(
    "--channels", type=click.IntRange(min=1), default=1, show_default=True, help="Channels of an image."
)
@click.option(
    "--size", type=click.IntRange(min=1), default=28, show_default=True, help="Side of an image in pixels."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    default="auto",
    show_default=True,
    help="Precision, as engine.precision in a study file.",
)
@click.option("--again", is_flag=True, help="Repeat measurements that are already stored.")
@as_json
# Eight parameters: click passes each option by its name.
def tune(  # noqa: PLR0913
    model: str,
    batch_sizes: tuple[int, ...],
    classes: int,
    channels: int,
    size: int,
    precision: Literal["auto", "float32", "bfloat16"],
    again: bool,
    as_json: bool,
) -> None:
    """Measure the fastest way to compute a network on this CPU.

    Prints the images per second of one worker. Later searches on this machine with one worker per core reuse
    the measurements. Without measurements, a long search measures by itself.
    """
    from dataclasses import asdict

    import torch

    from hpo.cli.tables import tuning_table
    from hpo.launch.devices import slots
    from hpo.settings import Settings
    from hpo.training.allocator import keep_freed_memory
    from hpo.training.check import check_outputs
    from hpo.training.engines.autotuning import AutotunedEngine, TuningOptions
    from hpo.training.engines.program import NetworkSpec
    from hpo.training.engines.throughput import throughputs
    from hpo.values.data_shape import DataShape
    from hpo.values.precision import search_precisions

    network = NetworkSpec(model, DataShape((channels, size, size), classes))
    examples = torch.zeros(2, channels, size, size), torch.zeros(2, dtype=torch.int64)
    check_outputs(model, network.build, examples, network.criterion())
    threads = int(slots("cpu", None)[0].environment["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)  # as many as a worker has
    keep_freed_memory()
    precisions = search_precisions(model) if precision == "auto" else (precision,)
    options = TuningOptions(precisions, remeasure=again)
    engine = AutotunedEngine(network, Settings.from_environment().programs_path, options)
    rows = throughputs(engine, batch_sizes)
    json_result([asdict(row) for row in rows]) if as_json else result(tuning_table(model, rows, threads))


@command('eval "$(hpo completion bash)"')
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from hpo.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    result(kind(cli, {}, "hpo", "_HPO_COMPLETE").source())
