"""The version of RAFT."""

__version__ = "0.1.0"
