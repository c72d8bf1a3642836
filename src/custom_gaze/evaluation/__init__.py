"""Errors with their intervals, comparisons, plots, the report, MLflow's records."""
