"""Inject faults, drawn from a seed, into a study under `hpo run` with four workers and its own Postgres.

After each seed, every invariant must hold, and every loss must equal that of a run without faults, bit for
bit. A failed seed keeps its folder with the log, and its faults are printed. Linux only.
"""

import shutil
import signal
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

from benchmarks.chaos.faults import FAULTS, FUNCTION_FAULTS, Fault, Schedule
from benchmarks.chaos.files import function_files, pack_files
from benchmarks.chaos.runs import Outcome, run_with_faults, run_without_faults
from benchmarks.chaos.server import running_server
from benchmarks.chaos.system import WORKERS, ChaosError, System
from benchmarks.command import parser
from benchmarks.results import Result, spread
from hpo.errors import HpoError

QUICK_SEED = 2015
"""A seed whose first six faults differ in kind. None restarts all processes, which takes longest."""


def parse_options() -> Namespace:
    options = parser(__doc__, quick="one seed, 6 faults, a smaller study")
    options.add_argument("--seeds", type=int, default=20, help="runs under faults (default 20)")
    options.add_argument("--faults", type=int, default=12, help="faults of each run (default 12)")
    options.add_argument("--first-seed", type=int, help=f"default 0; {QUICK_SEED} with --quick")
    options.add_argument("--pause", action="store_true", help="trials pause at rungs")
    options.add_argument(
        "--function",
        action="store_true",
        help="train with a function in processes of its own; the faults kill these and workers",
    )
    arguments = options.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.faults = 1, 6
    if arguments.first_seed is None:
        arguments.first_seed = QUICK_SEED if arguments.quick else 0
    return arguments


def main() -> None:
    arguments = parse_options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM cleans up as Ctrl-C does

    start = time.monotonic()
    if arguments.function:
        kinds, files = FUNCTION_FAULTS, partial(function_files, *(24, 24) if arguments.quick else (60, 40))
    else:
        kinds, files = (
            FAULTS,
            partial(pack_files, *(8, 24, "never") if arguments.quick else (20, 30, "always")),
        )
    pruner: Literal["none", "pause"] = "pause" if arguments.pause else "none"
    trained = ", a training function" if arguments.function else ""
    result = Result.begin("chaos", f"{WORKERS} workers, pruner {pruner}{trained}", arguments.seeds)
    # As root, the server runs as another user. That user must be able to enter every folder above its data.
    folder = Path(mkdtemp(prefix="hpo-chaos-"))
    outcomes: list[Outcome] = []
    try:
        with running_server(folder / "postgres") as server:
            baseline = run_without_faults(System(server, folder / "calm", files()))
            epochs = sum(len(trial.losses) for trial in baseline.trials) // (3 if arguments.pause else 1)
            log(f"without faults: held, {time.monotonic() - start:.0f} s")
            faulty_files = files(pruner=pruner)
            for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
                system = System(server, folder / f"seed-{seed}", faulty_files)
                schedule = Schedule(kinds, seed, arguments.faults)
                outcome = run_with_faults(system, baseline, epochs, schedule)
                log_outcome(outcome, system)
                outcomes.append(outcome)
                if not outcome.violations:
                    shutil.rmtree(system.folder)
    except (ChaosError, HpoError) as error:  # from the run without faults; `run_with_faults` catches its own
        sys.exit(f"{error}\n{folder / 'calm' / 'log'} has the log")
    except KeyboardInterrupt:
        if not is_broken(outcomes):
            shutil.rmtree(folder)
        sys.exit("stopped")
    report(result, outcomes, kinds, time.monotonic() - start)
    result.write(arguments.json)
    if is_broken(outcomes):
        sys.exit(1)
    shutil.rmtree(folder)


def is_broken(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.violations for outcome in outcomes)


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def log_outcome(outcome: Outcome, system: System) -> None:
    """Log one line for a seed, and violations, faults and log of a broken one."""
    verdict = "BROKEN" if outcome.violations else "held"
    log(f"seed {outcome.seed}: {verdict}, {len(outcome.faults)} faults, {outcome.seconds:.0f} s")
    if outcome.violations:
        log("\n".join(f"  {violation}" for violation in outcome.violations))
        log("\n".join(f"  {seconds:6.1f} s  {name}" for seconds, name in outcome.faults))
        log(f"{system.log_tail()}\n{system.folder} is kept")


def report(result: Result, outcomes: Sequence[Outcome], kinds: Mapping[str, Fault], seconds: float) -> None:
    injected = Counter(name for outcome in outcomes for _, name in outcome.faults)
    survived = Counter(name for outcome in outcomes if not outcome.violations for _, name in outcome.faults)
    table = result.table(
        f"Faults of all seeds, in {seconds:.0f} s", ("fault", "injected", "survived"), first=30
    )
    for name in kinds:
        table.add(name, str(injected[name]), str(survived[name]))
    table.add("all", str(injected.total()), str(survived.total()))
    recoveries = [each for outcome in outcomes for each in outcome.recoveries]
    if recoveries:
        heads = ("", "n", "median s", "range")
        table = result.table("Seconds from SIGKILL of a worker to the next claim of a trial of it", heads)
        median = result.median("SIGKILL to next claim", recoveries)
        table.add("recovery", str(len(recoveries)), f"{median:.1f}", spread(recoveries, 1))
    result.values.update({"seconds": seconds, "seeds": [asdict(outcome) for outcome in outcomes]})


if __name__ == "__main__":
    main()
