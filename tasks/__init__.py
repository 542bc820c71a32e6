"""Prefect tasks: each builds a stage's specification, runs it, and tells MLflow what came out."""
