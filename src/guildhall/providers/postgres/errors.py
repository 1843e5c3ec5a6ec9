"""What an operator is told when the database, or a tool that works on it, cannot do its work."""


class EmbeddedPostgresFailed(Exception):
    """The embedded database could not be started; says why and what to do."""


class DatabaseToolError(Exception):
    """Dumping or restoring did not work; says why, in the tool's own last words where it had any."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
