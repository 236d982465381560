"""Training of packs: networks, optimizers, batches and epochs, in torch and without a database."""
