"""MLflow: one run for each evaluated pipeline, with everything needed to compare sessions.

- `store`: where the runs go, opened by one process at a time
- `record`: what they keep of one evaluation
- `pending`: what could not be recorded, kept until it can
- `server`: MLflow's page
"""
