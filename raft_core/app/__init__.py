"""The application: settings, the graph of a run, checks before anything loads, commands."""
