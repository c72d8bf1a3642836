"""params.yaml as typed objects, the project's paths, the names that may stand there."""
