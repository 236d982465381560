"""The names that `hpo` exports."""

import subprocess
import sys

import hpo

NAMES = {
    *("StudySpec", "Study", "create_study", "load_study", "open_storage", "run_study", "promote"),
    *("retry_trials", "transfer_bundle", "TransferRecipe"),
    "url",
    *("best_params", "export_bundle", "load_bundle", "Bundle", "FunctionBundle", "HpoError", "Trial"),
    *("evaluate_bundle", "BundleEvaluation"),
}

LIGHT = """
import sys
import hpo
heavy = {"numpy", "optuna", "pydantic", "sqlalchemy", "torch"} & set(sys.modules)
assert not heavy, heavy
for name in dir(hpo):
    if name != "Bundle":
        getattr(hpo, name)
assert "torch" not in sys.modules
"""


def test_public_names_are_exported() -> None:
    assert set(dir(hpo)) == NAMES
    assert all(getattr(hpo, name).__doc__ for name in NAMES)


def test_import_is_light_and_only_networks_import_torch() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
