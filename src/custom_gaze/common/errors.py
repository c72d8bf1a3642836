"""The exceptions a user can meet. The command line prints their message and returns their code."""


class CustomGazeError(Exception):
    """Root of all errors raised on purpose. The message says what is wrong, where, what to do."""

    exit_code = 1


class InputError(CustomGazeError):
    """Something the user gave cannot be used: a file, a folder, a parameter."""

    exit_code = 2
