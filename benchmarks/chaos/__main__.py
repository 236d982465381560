"""Faults drawn from a seed against a study under `hpo run`, with four workers on a Postgres of its own.

python -m benchmarks.chaos [--seeds N] [--faults N] [--first-seed N] [--pause] [--quick] [--json FILE]

After each seed every invariant must hold, and every loss must be that of a run without faults, bit for bit.
A seed that fails keeps its folder, with the log, and its schedule is printed. Linux only.
"""

import argparse
import json
import shutil
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks import hardware
from benchmarks.chaos.faults import FAULTS
from benchmarks.chaos.server import running_server
from benchmarks.chaos.siege import Outcome, run_besieged, run_calm
from benchmarks.chaos.system import WORKERS, ChaosError, System, study_file
from hpo.errors import HpoError

QUICK_SEED = 2015
"""It draws six kinds of all sorts, and none of those that start everything anew, which takes most time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs under faults (default 20)")
    parser.add_argument("--faults", type=int, default=12, help="faults in each of them (default 12)")
    parser.add_argument("--first-seed", type=int, help=f"default 0; of the quick form {QUICK_SEED}")
    parser.add_argument("--pause", action="store_true", help="trials pause at rungs, under faults")
    parser.add_argument("--quick", action="store_true", help="one seed, 6 faults, a smaller study")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.faults = 1, 6
    if options.first_seed is None:
        options.first_seed = QUICK_SEED if options.quick else 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # with all that is to be cleared up

    start = time.monotonic()
    study = partial(study_file, *(8, 24, "never") if options.quick else (20, 30, "always"))
    # Where root runs this, the server is another user's process: no folder above it may be closed to that.
    folder = Path(mkdtemp(prefix="hpo-chaos-"))
    outcomes: list[Outcome] = []
    try:
        with running_server(folder / "postgres") as server:
            calm = run_calm(System(server, folder / "calm", study()))
            epochs = sum(len(trial.losses) for trial in calm.trials) // (3 if options.pause else 1)
            say(f"without faults: held, {time.monotonic() - start:.0f} s")
            struck = study(pruner="pause" if options.pause else "none")
            for seed in range(options.first_seed, options.first_seed + options.seeds):
                system = System(server, folder / f"seed-{seed}", struck)
                outcome = run_besieged(system, calm, epochs, seed, options.faults)
                tell(outcome, system)
                outcomes.append(outcome)
                if not outcome.violations:
                    shutil.rmtree(system.folder)
    except (ChaosError, HpoError) as error:  # under faults, it is an outcome
        sys.exit(f"{error}\n{folder / 'calm' / 'log'} has the log")
    except KeyboardInterrupt:
        if not is_broken(outcomes):
            shutil.rmtree(folder)
        sys.exit("stopped")
    report(outcomes, time.monotonic() - start, options.json)
    if is_broken(outcomes):
        sys.exit(1)
    shutil.rmtree(folder)


def is_broken(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.violations for outcome in outcomes)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tell(outcome: Outcome, system: System) -> None:
    """One line on a seed; where it failed, all that helps to see why."""
    held = "BROKEN" if outcome.violations else "held"
    say(f"seed {outcome.seed}: {held}, {len(outcome.faults)} faults, {outcome.seconds:.0f} s")
    if outcome.violations:
        say("\n".join(f"  {violation}" for violation in outcome.violations))
        say("\n".join(f"  {seconds:6.1f} s  {name}" for seconds, name in outcome.faults))
        say(f"{system.log_tail()}\n{system.folder} is kept")


def report(outcomes: Sequence[Outcome], seconds: float, file: Path | None) -> None:
    injected = Counter(name for outcome in outcomes for _, name in outcome.faults)
    survived = Counter(name for outcome in outcomes if not outcome.violations for _, name in outcome.faults)
    print(f"{len(outcomes)} seeds, {WORKERS} workers, {seconds:.0f} s")
    print(hardware.line())
    print(f"{'fault':32}{'injected':>10}{'survived':>10}")
    for name in FAULTS:
        print(f"{name:32}{injected[name]:10}{survived[name]:10}")
    print(f"{'all':32}{injected.total():10}{survived.total():10}")
    times = sorted(each for outcome in outcomes for each in outcome.recoveries)
    if times:
        middle, longest = statistics.median(times), times[-1]
        print(f"SIGKILL to next claim: median {middle:.1f} s, longest {longest:.1f} s, n = {len(times)}")
    if file:
        figures = {
            "hardware": hardware.line(),
            "seconds": seconds,
            "seeds": [asdict(outcome) for outcome in outcomes],
        }
        file.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
