"""Training on the far machine, jowestdgxe.

One verified ssh connection carries a command: commits as git bundles, files as the objects of
DVC's cache, a run's log, all as messages (frames.py). On the far machine the agent (agent*.py)
answers: it needs python3 and git, comes with every connection and leaves with it. Only a run that
was started stays, in a session of its own.
"""
