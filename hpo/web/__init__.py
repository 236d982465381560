"""What a browser shows: optuna-dashboard on the storage."""
