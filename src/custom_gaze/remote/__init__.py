"""Training on the far machine, jowestdgxe.

One verified ssh connection carries a command; git and rsync share it (carry.py). On the far machine
the agent (agent*.py) answers: it needs python3 and git, comes with every connection and leaves with
it. Only a run that was started stays: an engine (engine*.py) runs its job (job.py).
"""
