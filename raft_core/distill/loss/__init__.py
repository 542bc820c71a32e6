"""The RAFT objective and its balance, computed in chunks of tokens."""
