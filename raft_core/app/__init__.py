"""The application: all settings, the registry of stages, checks, commands."""
