"""The pipeline's stages, one module each, with dvc.yaml's names."""
