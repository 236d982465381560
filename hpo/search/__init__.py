"""Pure functions of a search: samplers, learning curves, pruning rules, stop rules."""
