"""Batches of a training step: targets, token views, groups by loss, packed rows."""
