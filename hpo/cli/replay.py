"""`hpo replay`: a search on a table of learning curves."""

from pathlib import Path

import click

from hpo.cli.command import as_json, command, width
from hpo.cli.output import json_result, result
from hpo.values.wording import counted

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the budget at which the table shows the regret."""


@command("hpo replay benchmarks/tables/lenet.csv.gz studies/lenet.toml --workers 4")
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Number of simulated workers."
)
@width
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of replays, with seeds from 0.",
)
@as_json
# Six parameters: click passes each option by its name.
def replay(  # noqa: PLR0913
    table: Path, file: Path, workers: int, width: int | None, seeds: int, as_json: bool
) -> None:
    """Replay the search of a study file on a table of learning curves.

    Nothing is trained: each trial reads a learning curve from TABLE, so a search takes a second. Sampler,
    pruner and bookkeeping are the same as in training, on a temporary database. The regret of the best trial
    so far is 0 for the best cell of the table, and 1 for the median cell. In a study of a training function,
    TABLE has the parameters and the metrics of the function.
    """
    import logging
    from dataclasses import asdict

    from hpo.cli.tables import replay_table
    from hpo.simulate import curve_table
    from hpo.simulate.regret import mean_regrets
    from hpo.simulate.replay import replay_search, scratch_storage
    from hpo.spec.study_spec import StudySpec
    from hpo.study.schedule import WIDTH

    logging.getLogger("hpo.worker").setLevel(logging.WARNING)  # packs of a replay are not announced
    spec = StudySpec.load(file)
    curves = curve_table.read(table, spec.space.vocabulary)
    epochs = spec.search.epochs
    curves.check(spec.space, epochs, str(file), spec.make_objective())
    with scratch_storage() as storage:
        replays = [
            replay_search(storage, spec.model_copy(update={"seed": seed}), curves, workers, width or WIDTH)
            for seed in range(seeds)
        ]
    most = spec.search.trials * epochs
    budget = min(most, spec.stop.epochs or most)
    limits = {f"{share:.0%} of {budget} epochs": share * budget for share in SHARES}
    means = dict(zip(limits, mean_regrets(replays, curves, epochs, list(limits.values())), strict=True))
    if as_json:
        json_result(
            {
                limit: {name: asdict(mean) for name, mean in columns.items()}
                for limit, columns in means.items()
            }
        )
        return
    simulated = f"{counted(seeds, 'replay')}, {counted(workers, 'worker')}"
    title = f"{spec.name} on {table}: {simulated}; mean and standard error"
    result(replay_table(title, means))
