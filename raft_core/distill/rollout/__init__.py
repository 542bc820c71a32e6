"""Rollouts: completions of the student, drawn while it trains."""
