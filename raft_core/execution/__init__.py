"""Running a stage: what it gets, its process, progress, budgets, shards."""
