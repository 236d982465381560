"""Try a study's network on the device of a worker before it claims a trial, once per machine."""

import hashlib
import json
import logging
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

from hpo.errors import InputError
from hpo.ownership import make_folder, open_new
from hpo.spec.study_spec import StudySpec
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.memory import is_out_of_memory
from hpo.training.variants import variants
from hpo.training.workload import Workload
from hpo.values.stage import Stage

log = logging.getLogger("hpo.worker")


def operator_engine(spec: StudySpec, device: torch.device, stage: Stage) -> EagerEngine:
    """Return the engine of torch's operators on `device`, with CUDA graphs if the study allows them."""
    precision = spec.precisions(stage)[0]
    captures = device.type != "cpu" and spec.uses_cuda_graphs
    return CudaGraphEngine(precision) if captures else EagerEngine(precision)


def rehearse(workload: Workload, device: torch.device, notes: Path) -> bool | None:
    """Return whether `vmap` may compute the members of a pack on `device`, None on a CPU.

    A pack of two takes a few steps and is evaluated by the operator engine, which also replaces compiled
    programs that fail. The folder `notes` records the rehearsals that passed on this machine. Raises
    InputError if the network cannot be trained on `device`.
    """
    engine = operator_engine(workload.spec, device, "search")
    note = notes / _key(workload, device, engine)
    with suppress(OSError, ValueError, LookupError, TypeError):
        fused = json.loads(note.read_text())["fused"]
        return fused if isinstance(fused, bool) else None
    try:
        fused = _rehearse(workload, device, engine)
    except InputError as error:
        raise InputError(f"study {workload.spec.name!r} on {device}: {error}") from error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None  # other processes use the device: packs will be narrower, or wait
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    write_note(note, fused)
    return fused


def _rehearse(workload: Workload, device: torch.device, engine: EagerEngine) -> bool | None:
    steps = WARM_UP + 2 if isinstance(engine, CudaGraphEngine) else None
    fused: bool | None = None
    for variant in variants(workload.spec.space):
        rehearsal = workload.rehearsal(device, engine, steps, variant.point)
        if device.type == "cpu":
            rehearsal.check()
            continue
        reason = rehearsal.why_not_fused()
        if reason is not None:
            rehearsal.check()
            name, text = rehearsal.name, "model %r: vmap cannot fuse it (%s); trials are trained in turn"
            log.warning(text, name, reason)
        fused = reason is None and fused is not False
    if device.type != "cpu":
        workload.check_metrics(device)
    return fused


def _key(workload: Workload, device: torch.device, engine: EagerEngine) -> str:
    """Return the name of the note on a rehearsal: a digest of all that the result depends on."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    parts = (
        version("hpo"),
        torch.__version__,
        [workload.network_of(variant.point) for variant in variants(workload.spec.space)],
        workload.identity.network,
        chip,
        type(engine).__name__,
        engine.precision,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def write_note(note: Path, fused: bool | None) -> None:
    """Record that a rehearsal has passed. If the note cannot be written, the next worker rehearses again."""
    with suppress(OSError):
        make_folder(note.parent, 0o700)
        part = note.with_suffix(".new")
        with open_new(part) as file:
            file.write(json.dumps({"fused": fused}).encode())
        part.replace(note)
