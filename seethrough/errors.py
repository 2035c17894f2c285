"""The one error that a user's input can cause."""


class InputError(ValueError):
    """Bad input from outside: a file, a checkpoint, a field.

    The message names the file or the field path, what was found there and what to do.
    The command line prints it alone and exits with code 2.
    """
