"""MLflow: one run for each calibration, with everything needed to compare sessions.

- `addresses`, `store`: where the runs go, opened by one process at a time
- `schema`, `moved`: a store of another version, or of a project that was moved
- `live`, `journal`, `courier`: what a training tells while it runs, and who carries it
- `record`, `upload`, `registry`: what is kept of an evaluation, its files and its model
- `pending`: what could not be recorded, kept until it can
- `server`: MLflow's page
"""
