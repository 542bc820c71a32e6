"""Settings: what one is, where its layers come from, how a run runs, and what may not be logged."""
