"""Settings: their base classes, layers, runtime, and what must never be logged."""
