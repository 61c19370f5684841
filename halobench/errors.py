"""The errors a user can fix: each holds one line per problem, naming the value, the place and the remedy."""


class HalobenchError(Exception):
    """Something is wrong that the user can put right.

    Args:
        problems: one line each; the command line prints them without a traceback.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class RecipeError(HalobenchError):
    """A recipe, an override or a parameter is not valid."""


class DataError(HalobenchError):
    """A data set cannot be read, or cannot give what was asked of it."""


class UnknownNameError(HalobenchError, KeyError):
    """A name is not registered."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class ResultsError(HalobenchError):
    """The results folder contradicts itself or a run."""


class TrainingError(HalobenchError):
    """Training cannot start or go on: a failed check at step 0, a strategy that does not fit the machine."""


class DivergedError(TrainingError):
    """The loss stopped being a finite number; the run is recorded as diverged."""
