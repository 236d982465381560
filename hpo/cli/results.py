"""Commands that use the results of a study: promote, export, predict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import json_result, message, result, say_stopped
from hpo.cli.plain_values import best_json
from hpo.errors import InputError
from hpo.values.wording import counted

if TYPE_CHECKING:
    from hpo.study.best import BestParams


@command("hpo promote lenet && hpo workers lenet")
@study_name
@as_json
def promote(name: str, as_json: bool) -> None:
    """Queue the best trials for full training.

    The study file sets their number and the number of seeds. The search must be finished. With full.refit, a
    call after the last full training queues the refits of the best. A repeated call changes nothing.
    """
    from hpo.run.environment import open_study
    from hpo.study.lifecycle import stopped
    from hpo.study.promote import promote

    _, storage, study = open_study(name)
    mark = stopped(storage, study, "full")
    if mark is not None:
        say_stopped(study, mark)
    promotion = None if mark is not None else promote(storage, study)
    if as_json:
        json_result(
            {
                "study": study.name,
                "stopped": mark and asdict(mark),
                "trials": [row.number for row in promotion.chosen] if promotion else [],
                "added": promotion.added if promotion else 0,
            }
        )
    if promotion is None:
        return
    objective = study.objective
    chosen = ", ".join(
        f"{row.number} ({objective.title} {objective.show(row.value)})"
        for row in promotion.chosen
        if row.value is not None
    )
    message(f"best of the search: {chosen}")
    if promotion.refitted:
        numbers = ", ".join(str(row.number) for row in promotion.refitted)
        message(f"best of full training: {numbers}")
        refits = counted(len(promotion.refitted), "refit")
        message(f"{refits} on all training images queued; next: hpo workers {study.name}")
    elif promotion.added:
        message(f"{counted(promotion.added, 'full training')} queued; next: hpo workers {study.name}")
    else:
        message("nothing to do: all of them are queued or trained already")


@command(
    "hpo export lenet --format env > best.env\n"
    "hpo export lenet --bundle best-lenet\n"
    "hpo export lenet --bundle ensemble --ensemble --shifts 1"
)
@study_name
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "toml", "yaml", "env", "args"]),
    help="Print the best parameters in this format. Default: json, unless --bundle is given.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write parameters, weights, test metrics and provenance to this folder.",
)
@click.option(
    "--trial",
    type=click.IntRange(min=0),
    metavar="N",
    help="Export full training N. Default: the model that [export] in the study file names.",
)
@click.option("--ensemble", is_flag=True, help="Export the seeds of the best full training as one model.")
@click.option(
    "--shifts",
    type=click.IntRange(min=0),
    metavar="PIXELS",
    help="Average predictions over small shifts of an image. Default: as [export] says.",
)
@as_json
# Seven parameters: click passes each option by its name.
def export(  # noqa: PLR0913
    name: str,
    form: str | None,
    bundle: Path | None,
    trial: int | None,
    ensemble: bool,
    shifts: int | None,
    as_json: bool,
) -> None:
    """Export the best parameters and the best model.

    The best trial is the full training with the best objective. Before any full training has
    completed, the command prints the parameters of the best search trial. Full trainings of one search
    trial that differ in the seed are summarised by mean and standard deviation.

    Each exported model is scored on the test part once. The command says how many models were scored so
    far: choose by validation, and not by the test part.
    """
    from hpo.cli.export_lines import export_lines, seed_lines
    from hpo.cli.tables import metrics_text
    from hpo.export.bundle_folder import check_folder
    from hpo.export.request import ExportRequest
    from hpo.run.environment import open_study
    from hpo.study.best import best_params, choose

    _check_pairs({"--trial": trial is not None, "--ensemble": ensemble})
    _check_pairs({"--json": as_json, "--format": form is not None})
    if bundle is None and (ensemble or shifts is not None):
        raise InputError(f"{'--ensemble' if ensemble else '--shifts'}: is of a model; add --bundle DIR")
    settings, storage, study = open_study(name)
    request = ExportRequest(bundle or Path(), "ensemble" if ensemble else trial, shifts)
    request.shifts_of(study.spec)
    if bundle is None and trial is None:
        best = best_params(storage, study)
    else:
        best = choose(storage, study, request.model_of(study.spec)).best
    if bundle is None or form is not None:
        _say_best(best, "" if study.spec.is_function else "validation ")
        if not as_json:
            click.echo(best.render(form or "json"), nl=False)
    if bundle is None:
        for line in seed_lines(best):
            message(line)
    else:
        check_folder(bundle)
        from hpo.run.export_best import make_export

        message(metrics_text(make_export(storage, study, settings, request)()))
        for line in export_lines(best, bundle):
            message(line)
        result(str(bundle)) if form is None and not as_json else message(f"bundle: {bundle}")
    if as_json:
        json_result({**best_json(best), "bundle": bundle and str(bundle)})


def _check_pairs(given: Mapping[str, bool]) -> None:
    """Raise `InputError` if both of two options are given."""
    if all(given.values()):
        raise InputError(f"{' and '.join(given)}: give one of the two")


def _say_best(best: BestParams, on: str) -> None:
    from hpo.cli.tables import figures_of

    figures = ", ".join(figures_of(best.objective, best.value, best.record.metrics or {}))
    message(f"{best.stage} trial {best.trial}: {on}{figures}")
    if best.baseline is not None:
        message(f"baseline: {best.baseline.describe()}")


@command("hpo predict best-lenet image.png another.png --top 3")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes per image.")
@as_json
def predict(bundle: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Classify image files with an exported model.

    Images are scaled to the input size of the model. Dark-on-bright images are inverted.
    """
    import numpy as np

    from hpo.export.any_bundle import load_bundle
    from hpo.export.function_bundle import FunctionBundle
    from hpo.export.images import read_image

    model = load_bundle(bundle)
    if isinstance(model, FunctionBundle):
        raise InputError(
            f"{bundle}: the bundle of a training function has no network to classify images with"
        )
    inputs = [read_image(path, model.spec) for path in images]
    for path, image in zip(images, inputs, strict=True):
        if image.inverted:
            message(f"{path}: dark on bright, inverted")
    if not model.classes:
        raise InputError(f"{bundle}: the model predicts numbers, and no classes; use load_bundle in Python")
    rankings = model.rank(np.stack([image.pixels for image in inputs]), top)
    if as_json:
        json_result(
            [
                {"image": str(path), "ranking": [{"class": name, "probability": p} for name, p in ranking]}
                for path, ranking in zip(images, rankings, strict=True)
            ]
        )
        return
    for path, ranking in zip(images, rankings, strict=True):
        result(f"{path}\t" + "\t".join(f"{name} {probability:.1%}" for name, probability in ranking))
