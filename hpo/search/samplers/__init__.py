"""Where the next points of a search come from: a random plan, TPE, or a Gaussian process."""
