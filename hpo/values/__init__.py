"""Plain values shared by all packages: parameters, spaces, budgets, stages, seeds, epoch results."""
