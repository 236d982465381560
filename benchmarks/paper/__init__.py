"""Full training of the published study's networks: search, arms, seeds, and the page of the results."""
