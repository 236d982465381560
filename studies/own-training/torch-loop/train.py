"""A plain PyTorch loop."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import hpo


def fit(trial: hpo.Trial):
    torch.manual_seed(trial.seed)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).flatten(1).to(trial.device)
    labels = torch.tensor(digits.target).to(trial.device)
    train, valid = slice(0, 1200), slice(1200, None)

    width, lr = trial.params["width"], trial.params["lr"]
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)).to(trial.device)
    optimizers = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
    optimizer = optimizers[trial.params["optimizer"]](model.parameters(), lr=lr)

    state = trial.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    for epoch in trial.epochs:
        # An order that follows from the seed and the epoch is the same in a resumed trial.
        generator = torch.Generator().manual_seed(trial.seed + epoch)
        for batch in torch.randperm(1200, generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(images[train][batch]), labels[train][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            outputs = model(images[valid])
            loss = nn.functional.cross_entropy(outputs, labels[valid])
            accuracy = (outputs.argmax(1) == labels[valid]).float().mean()
        trial.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        yield {"loss": loss.item(), "accuracy": accuracy.item()}
