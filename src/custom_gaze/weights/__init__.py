"""Base networks: every file a user may bring, read into one form, checked and stored.

load.py finds out what a file is by looking at it; base.py keeps it as models/base.pt and makes it a
network again; inspect.py says what a file is.
"""
