"""`docs/search.md`: what `benchmarks.regret` has found, as text, tables and pictures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ranking

EpochMetrics = dict[str, Any]

COMMAND = "python -m benchmarks.regret --report docs"

SHOWN = {
    "random, none, twice the cost": ("#999999", ":"),
    "random, none": ("#999999", "-"),
    "random, pause": ("#999999", "--"),
    "tpe, none": ("#4477aa", "-"),
    "tpe, pause": ("#4477aa", "--"),
    "gp, none": ("#cc3311", "-"),
    "gp, asha": ("#cc3311", "-."),
    "gp, pause": ("#cc3311", "--"),
}
"""Colour and line of the policies in the pictures: a colour for each sampler, dashes for pauses."""

HEAD = f"""# Which sampler and pruner to use

This page is written by

```sh
{COMMAND}
```

A *policy* is a sampler with a pruner. Each was carried out many times, under seeds 0, 1, 2 and so on, on
tables that hold the curves of every cell of the paper's space under several seeds: by the real claim,
sampler, pruner and promotion, on a real Postgres, with one simulated worker unless it is said. A search may
spend 140 candidate-epochs, which is what the paper's 28 trials of 5 epochs take; what prunes gets more trials
for them.

The *regret* of a search is that of its best trial, as the search sees it: how far the mean loss of that cell
over all its runs is from the least of all cells, as a share of how far the median cell is. 0 is the best
cell, 1 the median. Until a trial has completed, the regret is 1. Figures are means with their standard
errors.

The *default* is what a study file gets that says nothing else: gp with pause. After 1, 2 and 4 epochs a trial
pauses, and of all that came so far the best third goes on, by how they are expected to end (`hpo.forecast`).
gp begins with steps of a length that was good for other networks; here it takes that length from the other
table alone, so it has not seen the one it is tried on. How near a step must be, that a third goes on, and the
few constants of the expectation were chosen with a look at both tables.
"""


def write(folder: Path, figures: EpochMetrics) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    parts = [HEAD, f"Measured on: {figures['hardware']}.\n"]
    for name, its in figures["tables"].items():
        for axis, label in (("epochs", "candidate-epochs"), ("device seconds", "simulated device seconds")):
            picture(folder / picture_name(name, axis), its["policies"], axis, label)
        parts.append(section(name, its))
    (folder / "search.md").write_text("\n".join(parts))


def picture_name(name: str, axis: str) -> str:
    return f"search-{name}-{axis.replace(' ', '-')}.png"


def in_words(ranks: Sequence[float]) -> str:
    return ", ".join(f"{rank:.2f}" for rank in ranks[:-1])


def section(name: str, its: EpochMetrics) -> str:
    table, policies = its["table"], its["policies"]
    seeds = sorted({row["n"] for row in policies.values()})
    parts = [
        f"## {name}\n",
        f"{table['cells']} cells, {table['runs']} runs each (`benchmarks/tables/{name}.csv.gz`, which says "
        f"how it was made). The mean loss after five epochs is {table['least']:.4f} in the best cell and "
        f"{table['median']:.4f} in the median one; runs of one of the better cells differ by "
        f"{table['spread']:.4f} (standard deviation). Whoever knew one run of every cell, and took the best, "
        f"would have a regret of {table['one run']:.4f}: what a search can hope for that runs a cell once. "
        f"The ranks of all cells after 1, 2, 3 and 4 epochs agree with those after 5 by "
        f"{in_words(table['ranks'])} (Spearman), those of the better half of the cells by "
        f"{in_words(table['ranks of the better'])}.\n",
        f"![Regret by epochs]({picture_name(name, 'epochs')})\n",
        f"![Regret by device seconds]({picture_name(name, 'device seconds')})\n",
        f"### Policies (n = {' and '.join(map(str, seeds))})\n",
        markdown(
            ["policy", "35 epochs", "70", "140", "280", "trials", "device seconds"],
            (
                [
                    policy,
                    *padded(row["regret"]["mean"], row["regret"]["error"], 4),
                    f"{row['trials']:.0f}",
                    f"{row['device seconds']:.1f}",
                ]
                for policy, row in policies.items()
            ),
        ),
        "### The default against the paper's random search\n",
        markdown(
            ["the default, at", "its regret", "the bar", ""],
            (
                [
                    bar["words"],
                    f"{bar['default']:.4f}",
                    f"{bar['bar']:.4f}",
                    "holds" if bar["default"] <= bar["bar"] else "does not hold",
                ]
                for bar in its["bars"]
            ),
        ),
    ]
    if "workers" in its:
        parts += [
            "### The default with several workers\n",
            markdown(
                ["workers", "n", "35 epochs", "70", "140", "epochs in the end", "seconds"],
                (
                    [
                        count,
                        str(row["n"]),
                        *padded(row["regret"]["mean"], row["regret"]["error"], 3),
                        f"{row['epochs']:.0f}",
                        f"{row['seconds']:.1f}",
                    ]
                    for count, row in its["workers"].items()
                ),
            ),
        ]
    if "optuna" in its:
        parts += [
            "### Optuna's own\n",
            "The same methods, 28 trials one at a time, by Optuna alone on the same table. Ours repeats no "
            "cell; its TPE is Optuna's, asked over a history.\n",
            markdown(
                ["policy", "regret, hpo", "Optuna", "epochs, hpo", "Optuna"],
                (
                    [
                        policy,
                        *padded(
                            [row[of]["mean"] for of in ("hpo", "optuna")],
                            [row[of]["error"] for of in ("hpo", "optuna")],
                            2,
                        ),
                        *(f"{row[of]['epochs']:.1f}" for of in ("hpo", "optuna")),
                    ]
                    for policy, row in its["optuna"].items()
                ),
            ),
        ]
    if "ranking" in its:
        parts += ranking_section(its["ranking"])
    parts += [
        "### What matters\n",
        markdown(
            ["parameter", "importance (PED-ANOVA)", "mean loss by value"],
            (
                [
                    parameter,
                    f"{table['importance'][parameter]:.2f}",
                    ", ".join(f"{value}: {loss:.2f}" for value, loss in effects.items()),
                ]
                for parameter, effects in table["mean loss"].items()
            ),
        ),
    ]
    return "\n".join(parts)


def ranking_section(found: EpochMetrics) -> list[str]:
    names = [name for name in found["rows"][0] if name not in ("rank", "mini", "full")]
    top = ", ".join(f"{loss:.4f}" for loss in found["top"])
    return [
        "### Does the mini split tell the truth?\n",
        "Cells that are spread over all ranks of the mini split, and its best ones, trained in full once "
        "each (`python -m benchmarks.ranking`). Loss and accuracy are those on validation images, of the "
        "mini split after five epochs, and of full training at the epoch that counts.\n",
        markdown(
            ["rank", *names, "mini loss", "accuracy", "full loss", "accuracy"],
            (
                [
                    str(row["rank"]),
                    *(f"{row[name]:g}" for name in names),
                    *(f"{loss:.4f} | {accuracy:.2%}" for loss, accuracy in (row["mini"], row["full"])),
                ]
                for row in found["rows"]
            ),
        ),
        f"Rank correlation (Spearman) of mini and full over the {ranking.CELLS} spread cells, with intervals "
        "of 95%:\n",
        markdown(
            ["mini and full", "", "interval"],
            (
                [words, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
                for words, (middle, low, high) in found["correlations"].items()
            ),
        ),
        f"The least full loss among the best 1, 2, 3 and so on of the mini split: {top}.\n",
    ]


def padded(means: Sequence[float], errors: Sequence[float], count: int) -> list[str]:
    cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in zip(means, errors, strict=True)]
    return cells + [""] * (count - len(cells))


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def picture(path: Path, policies: EpochMetrics, axis: str, label: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for policy, (colour, line) in SHOWN.items():
        if policy not in policies:
            continue
        at = policies[policy][f"by {axis}"]
        axes.plot(at["spent"], at["mean"], color=colour, linestyle=line, label=policy)
        low, high = (
            [max(1e-3, mean + sign * error) for mean, error in zip(at["mean"], at["error"], strict=True)]
            for sign in (-1, 1)
        )
        axes.fill_between(at["spent"], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(yscale="log", xlabel=label, ylabel="regret", ylim=(2e-3, 1.5))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
