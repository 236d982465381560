"""Members of a session with their own dropout, clipping and class weights train as alone, in every pack."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.packs import batches, new_pack
from support.training import FULL, GOOD, SEARCH, images, linear, run_to_end
from torch import nn

from hpo.training.classification import Classification
from hpo.training.columns import step_settings
from hpo.training.engines.eager import EagerEngine
from hpo.training.optimizers.registry import create_optimizer
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult

NAMES = ("dropout", "clip", "class_weights", "label_smoothing", "rotation", "scaling")
MEMBERS: tuple[dict[str, Any], ...] = (
    {"dropout": 0.4, "clip": 0.1, "class_weights": "balanced", "rotation": 30.0},
    {"dropout": 0.0, "clip": 5.0, "class_weights": "none", "label_smoothing": 0.2},
    {"clip": 0.1},
    {"dropout": 0.5, "rotation": 0.0, "scaling": 0.2},
)


def dropping() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(28 * 28, 20), nn.ReLU(), nn.Dropout(0), nn.Linear(20, 10)
    )


def session(
    members: Mapping[int, Mapping[str, Any]],
    names: tuple[str, ...] = NAMES,
    budget: Budget = SEARCH,
    vectorised: bool | None = None,
) -> PackSession:
    task = Task(dropping, images(0), images(1, 70), Classification(10), vectorised)
    trainer = Trainer(task, Recipe(budget, 16, 5, names), runtime=Runtime(clock=lambda: 0.0))
    return trainer.start({key: Candidate({**GOOD.params, **own}, 3) for key, own in members.items()})


def curves(session: PackSession) -> dict[int, list[float]]:
    return {
        key: [result.metrics["train_loss"] for result in results]
        for key, results in run_to_end(session).items()
    }


@pytest.mark.parametrize("budget", [SEARCH, FULL], ids=["search", "full"])
def test_a_member_has_the_same_curve_in_every_pack(budget: Budget) -> None:
    together = curves(session(dict(enumerate(MEMBERS)), budget=budget))
    for key, own in enumerate(MEMBERS):
        assert curves(session({key: own}, budget=budget))[key] == together[key]
    assert len({tuple(curve) for curve in together.values()}) == len(MEMBERS)


def test_a_pack_that_vmap_computes_has_about_the_same_curves() -> None:
    members = dict(enumerate(MEMBERS))
    fused = curves(session(members, vectorised=True))
    for key, curve in curves(session(members)).items():
        assert fused[key] == pytest.approx(curve, rel=1e-3)


def test_members_without_values_of_their_own_are_as_in_a_study_that_names_none() -> None:
    """The network has no layer of rate 0: such a layer draws masks where the rate is searched."""
    task = Task(linear, images(0), images(1, 70), Classification(10))

    def results(names: tuple[str, ...]) -> list[EpochResult]:
        trainer = Trainer(task, Recipe(FULL, 16, 5, names), runtime=Runtime(clock=lambda: 0.0))
        return run_to_end(trainer.start({0: GOOD}))[0]

    assert results(("dropout", "clip", "rotation", "shift", "scaling", "shear")) == results(())


def test_a_phase_bounds_the_gradients_of_members_that_do_not() -> None:
    budget = Budget("full", (Phase("sgd", 2, clip=0.1),), "last")
    own = curves(session({0: {"clip": 0.1}, 1: {}}, ("clip",), budget))
    assert own[0] == own[1] == curves(session({0: {}}, (), budget))[0]
    assert curves(session({0: {"clip": 9.0}}, ("clip",), budget))[0] != own[0]


def test_each_gradient_is_clipped_to_the_norm_of_its_member() -> None:
    (batch,) = batches(1)
    norms = []
    for clip in (0.05, 0.2, None):
        pack = new_pack(lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10)))
        parameters, start = pack.weights.parameters, pack.weights.parameters.clone()
        members = [{} if clip is None else {"clip": clip}] * 3
        pack.columns = step_settings(["clip"], members, parameters, None, lambda: torch.empty(0))
        optimizer = create_optimizer("sgd", [{"lr": 1.0, "momentum": 0.0}] * 3, parameters)
        EagerEngine().step(pack, optimizer, None, *batch)
        norms.append((parameters - start).norm(dim=1).tolist())
    assert norms[0] == pytest.approx([0.05] * 3, rel=1e-3)
    assert norms[1] == pytest.approx([0.2] * 3, rel=1e-3)
    assert min(norms[2]) > 0.2


def test_the_adam_phase_takes_no_setting_of_the_trial() -> None:
    own = {"weight_decay": 0.5, "beta1": 0.5, "beta2": 0.5, "schedule": "cosine", "warmup": 0.5}
    budget = Budget("full", (Phase("adam", 2, settings={"lr": 1e-3}),), "last")
    searched, plain = (session({0: own}, names, budget) for names in ((*own,), ()))
    assert curves(searched) == curves(plain)
    first = Budget("full", (Phase("adam", 2),), "last")
    assert curves(session({0: own}, (*own,), first)) != curves(session({0: own}, (), first))


def test_what_is_searched_wins_over_the_section_of_full_training() -> None:
    augmentation = Augmentation(rotation=10, shift=0.1)
    budget = Budget("full", (Phase("sgd", 1, clip=0.5, augmentation=augmentation),), "last")
    merged = replace(augmentation, rotation=40.0)
    expected = Budget("full", (Phase("sgd", 1, clip=0.2, augmentation=merged),), "last")
    searched = session({0: {"clip": 0.2, "rotation": 40.0}}, ("clip", "rotation"), budget)
    assert curves(searched) == curves(session({0: {}}, (), expected))


RECIPE = {"schedule": "cosine", "warmup": 0.3, "nesterov": True, "label_smoothing": 0.2, "dropout": 0.4}


def test_parameters_of_a_phase_are_those_of_every_trial() -> None:
    budget = Budget("full", (Phase("sgd", 3, clip=0.5, params=RECIPE),), "last")
    plain = Budget("full", (Phase("sgd", 3, clip=0.5),), "last")
    defaults = {"schedule": "constant", "nesterov": False, "label_smoothing": 0.0}
    members = {0: {"lr": 0.05}, 1: {"lr": 0.01}}
    own = {key: {**values, **RECIPE} for key, values in members.items()}
    expected = curves(session(own, tuple(RECIPE), plain))
    with_defaults = {key: {**values, **defaults} for key, values in members.items()}
    assert curves(session(with_defaults, (), budget)) == expected
    assert curves(session(with_defaults, (), plain)) != expected


def test_parameter_of_a_phase_that_does_not_apply_has_no_effect() -> None:
    one_cycle = Budget("full", (Phase("sgd", 2, params={"schedule": "one-cycle"}),), "last")
    warm = {"warmup": 0.5, "schedule": "constant"}
    assert curves(session({0: warm}, ("warmup",), one_cycle)) == curves(session({0: {}}, (), one_cycle))
    adam = Budget("full", (Phase("adam", 2, params={"nesterov": True}),), "last")
    assert curves(session({0: {}}, (), adam)) == curves(
        session({0: {}}, (), Budget("full", (Phase("adam", 2),), "last"))
    )
