"""Prefect flows, each the pipeline as a table of contents."""
