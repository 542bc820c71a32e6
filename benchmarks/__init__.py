"""Measurements of speed and memory, as ratios."""
