"""Gradient boosting by rounds. An epoch is ten rounds."""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split

import hpo

ROUNDS = 10


def fit(trial: hpo.Trial):
    rows, targets = load_diabetes(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(rows, targets, test_size=0.3, random_state=0)
    model = HistGradientBoostingRegressor(
        max_iter=1, warm_start=True, early_stopping=False, random_state=trial.seed, **trial.params
    )

    state = trial.load()
    if state is not None:
        # scikit-learn saves its trees with pickle only. Growing them again gives the same trees.
        model.set_params(max_iter=state["rounds"]).fit(train_x, train_y)

    for epoch in trial.epochs:
        model.set_params(max_iter=ROUNDS * epoch).fit(train_x, train_y)
        trial.save({"rounds": model.n_iter_})
        yield {"rmse": np.sqrt(np.mean((model.predict(valid_x) - valid_y) ** 2))}
