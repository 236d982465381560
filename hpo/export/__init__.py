"""Bundles: the best trained model with its parameters, weights and test metrics."""
