"""Commands that use what a study found: promote, export, predict."""

from pathlib import Path

import click

from hpo.cli.shared import as_json, command, is_stopped, json_result, opened, result, study_name, words


@command("hpo promote lenet && hpo workers lenet")
@study_name
def promote(name: str) -> None:
    """Queue the best trials for full training.

    The study file says how many, and with how many seeds. The search must be finished. Calling it again
    changes nothing.
    """
    from hpo.study import promote

    _, storage, study = opened(name)
    if is_stopped(storage, study):
        return
    done = promote.promote(storage, study)
    chosen = ", ".join(f"{row.number} (loss {row.value:.4f})" for row in done.chosen)
    words(f"best of the search: {chosen}")
    if done.added:
        words(f"{done.added} full trainings queued; next: hpo workers {study.name}")
    else:
        words("nothing to do: all of them are queued or trained already")


@command("hpo export lenet --format env > best.env\nhpo export lenet --bundle best-lenet")
@study_name
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "toml", "yaml", "env", "args"]),
    help="Print the best parameters so. Default: json, unless there is a --bundle.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write parameters, weights, test metrics and provenance to this folder.",
)
def export(name: str, form: str | None, bundle: Path | None) -> None:
    """Take the best parameters and model away.

    The best of full training; before there is one, the parameters of the best of the search.
    """
    from hpo.study.best import best_params

    found, storage, study = opened(name)
    best = best_params(storage, study)
    if bundle is None or form is not None:
        words(
            f"trial {best.trial} of the {best.stage} stage: validation loss {best.value:.4f}, "
            f"accuracy {best.accuracy:.2%}"
        )
        click.echo(best.render(form or "json"), nl=False)
    if bundle is not None:
        from hpo.export.export import export_bundle
        from hpo.training.workload import Workload

        workload = Workload(study.spec, found.data_path)
        metrics = export_bundle(storage, study, workload, found.artifacts_path, bundle)
        low, high = metrics.accuracy_interval
        words(f"test accuracy {metrics.accuracy:.2%} (95% interval {low:.2%} to {high:.2%}, n = {metrics.n})")
        result(str(bundle)) if form is None else words(f"bundle: {bundle}")


@command("hpo predict best-lenet image.png another.png --top 3")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(min=1), default=3, show_default=True, help="Classes per image.")
@as_json
def predict(bundle: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Name the characters in image files.

    Images are brought to the model's size; dark on bright ones are inverted.
    """
    import numpy as np

    from hpo.export.bundle import load_bundle
    from hpo.export.images import read_image

    loaded = load_bundle(bundle)
    pictures = [read_image(path, loaded.spec) for path in images]
    for path, picture in zip(images, pictures, strict=True):
        if picture.inverted:
            words(f"{path}: dark on bright, inverted")
    rankings = loaded.rank(np.stack([picture.pixels for picture in pictures]), top)
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
