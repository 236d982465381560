"""A linear classifier of scikit-learn, one pass over the digits an epoch."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import hpo


def fit(trial: hpo.Trial):
    images, labels = load_digits(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        images / 16, labels, test_size=0.3, random_state=0, stratify=labels
    )
    classes = np.unique(labels)
    model = SGDClassifier(loss="log_loss", learning_rate="invscaling", shuffle=False, **trial.params)

    state = trial.load()
    if state is not None:
        model.coef_, model.intercept_, model.t_ = state["coef"], state["intercept"], state["t"]

    for epoch in trial.epochs:
        # An order that follows from the seed and the epoch is the same in a resumed trial.
        order = np.random.default_rng([trial.seed, epoch]).permutation(len(train_y))
        model.partial_fit(train_x[order], train_y[order], classes=classes)
        loss = log_loss(valid_y, model.predict_proba(valid_x), labels=classes)
        trial.save({"coef": model.coef_, "intercept": model.intercept_, "t": model.t_})
        yield {"loss": loss, "accuracy": model.score(valid_x, valid_y)}
