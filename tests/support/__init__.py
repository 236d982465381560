"""What several tests share: a shell, crowds of processes, workers in this process, late evaluations."""
