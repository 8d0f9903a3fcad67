"""The commands `deploy` and `worker`: what prefect.yaml describes, put on a Prefect server."""
