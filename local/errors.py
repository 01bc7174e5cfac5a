"""The one error type whose message a person is meant to read."""


class LocalError(Exception):
    """A problem that the user can mend: one line that says what is wrong, and one that says what to do.

    The command line prints it without a traceback and exits with status 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem
