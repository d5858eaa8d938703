"""The error that a command reports to its user without a traceback."""


class UserError(ValueError):
    """A mistake in what the user gave: an option, a file, a folder.

    Its message is one or two lines: what was given, what is allowed, what to do. Commands print it
    and exit with code 2.
    """
