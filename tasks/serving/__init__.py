"""Prefect's and MLflow's servers as this project starts them: closed to other pages and users."""
