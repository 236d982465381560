"""Replays of searches on tables of learning curves, and their regret."""
