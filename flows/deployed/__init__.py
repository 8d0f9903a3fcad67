"""Flows that deployments run: their parameters are forms in Prefect's UI, see prefect.yaml."""
