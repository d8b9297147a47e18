"""The two ways a command ends that are not a bug of ours: the user's mistake, and a run that failed."""


class InputError(Exception):
    """The user's mistake: a wrong param, a broken file, a store that is down. The message says what is
    wrong, where, what is allowed and how to fix it. Commands print it without a traceback and exit with 2."""


class RunError(Exception):
    """A run that failed for a reason the user must know: a loss that is not finite, a gate not met.
    Commands print the message without a traceback and exit with 1."""
