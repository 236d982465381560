"""Images per second of a network by variant, as `hpo tune` shows them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpo.training.engines.autotuning import AutotunedEngine
from hpo.training.engines.compiled import EVALUATION_BATCH
from hpo.training.engines.program import Program, evaluation_of
from hpo.training.engines.timing import fastest
from hpo.training.optimizers.sgd import Sgd


@dataclass(frozen=True, slots=True)
class Throughput:
    """The rates of all variants of a step at `batch_size`, or of an evaluation, and the chosen variant.

    `purpose`: the name of the step's optimizer, or "evaluation".
    """

    batch_size: int
    purpose: str
    images_per_second: Mapping[str, float]
    chosen: str


def throughputs(engine: AutotunedEngine, batch_sizes: Iterable[int]) -> list[Throughput]:
    """Return the throughput of SGD steps at each batch size, and of evaluations.

    The rates hold for a worker with as many threads as this process.
    """
    steps = [Program(engine.network, Sgd.name, size) for size in batch_sizes]
    rows = []
    for program in (*steps, evaluation_of(engine.network, EVALUATION_BATCH)):
        seconds = engine.measure(program)
        rates = {variant: program.batch_size / least for variant, least in seconds.items() if least}
        purpose = program.optimizer or "evaluation"
        rows.append(Throughput(program.batch_size, purpose, rates, fastest(seconds)))
    return rows
