"""Artifacts under keys: records, locks, shared and remote stores, garbage."""
