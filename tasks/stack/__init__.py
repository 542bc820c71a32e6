"""The daily setup on one machine: Prefect's and MLflow's servers, and a worker for each pool."""
