"""Training on the far machine, jowestdgxe.

One verified ssh connection carries a command; git and rsync share it (carry.py). On the far machine
the agent (agent*.py) answers: it needs python3 and git, comes with every connection and leaves with
it. Only a run that was started stays: an engine (engine*.py) runs its job (job.py).

What goes wrong raises here a CustomGazeError of one line: InputError where the user can correct it,
Unreachable where ssh does not connect, Lost where the connection was cut (the same again goes on),
AgentError where the far machine has refused or failed, NotAsked where it sent something else than
was asked for. There a verb raises Refused, or an OSError. Docstrings name what is particular.
"""
