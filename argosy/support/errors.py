"""Errors that a user can act on: one sentence with the offending value, and a hint."""

from __future__ import annotations


class ArgosyError(Exception):
    """Base of all errors that are shown without a traceback.

    `message` is one lower-case line with the offending value in backticks; `hint` is the remedy, a command if there is
    one; `exit_code` is the exit code of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class UsageError(ArgosyError):
    """An argument or an environment variable has a value that is not allowed."""

    exit_code = 2


class CheckpointError(ArgosyError):
    """A checkpoint is missing, malformed, truncated, or does not hold what its config promises."""


class UnsupportedModelError(ArgosyError):
    """The checkpoint is sound but asks for an architecture or a feature that Argosy does not implement."""


class SchemeError(ArgosyError):
    """A quantization scheme is unknown, or does not fit the checkpoint or the target."""


class TargetError(ArgosyError):
    """A target is unknown, or this machine lacks what building or running it needs."""


class CompileError(ArgosyError):
    """The compiler or the linker failed."""


class ArtefactError(ArgosyError):
    """An artefact directory is incomplete, altered, or was made for something else."""


class RequestError(ArgosyError):
    """A generation request holds a value that is not allowed."""


class ContextFullError(ArgosyError):
    """A prompt does not fit into the model's context window."""
