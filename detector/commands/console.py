"""What every command shares: where its words go, and which exit code an outcome or an error has."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import typer

from index.errors import DetectorError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from detector.commands.progress import Ticker

FLAGGED = 1
FAILED = 2
INTERRUPTED = 130

PIPED_WIDTH = 120
"""Columns where the output is no terminal and COLUMNS does not say."""


class Output:
    """A command's words: results on stdout, everything else on stderr; errors become one line and a code.

    Use it round the whole command; leaving the block ends the command with its exit code.

    Attributes:
        outcome: Exit code where nothing goes wrong.
        on_interrupt: What to say after Ctrl-C.
    """

    def __init__(self, *, quiet: bool, as_json: bool, debug: bool) -> None:
        """Keep the three options that every command has."""
        self.as_json = as_json
        self.outcome = 0
        self.on_interrupt = "Interrupted. Run the same command again."
        self._silent = quiet or as_json
        self._debug = debug
        self._restore: list[tuple[signal.Signals, Any]] = []
        self._log = _Repeated(self)

    def __enter__(self) -> Output:
        """Let SIGTERM act like Ctrl-C, and log messages appear as notes."""
        if threading.current_thread() is threading.main_thread():
            self._restore.append((signal.SIGTERM, signal.signal(signal.SIGTERM, _interrupt)))
        logging.getLogger("detector").addHandler(self._log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the command: flush, say what went wrong, raise `typer.Exit` with the code."""
        logging.getLogger("detector").removeHandler(self._log)
        for number, handler in self._restore:
            signal.signal(number, handler)
        if error is None:
            try:
                sys.stdout.flush()
            except OSError as failed:
                error = failed
        if error is None:
            raise typer.Exit(self.outcome)
        if isinstance(error, Exception) and type(error).__module__.split(".")[0] in ("typer", "click"):
            return  # a usage error or an exit of Typer's own
        if isinstance(error, (Exception, KeyboardInterrupt)):
            raise typer.Exit(self._code_of(error)) from error

    def _code_of(self, error: BaseException) -> int:
        """Say what went wrong and return the exit code for it."""
        if isinstance(error, BrokenPipeError):
            _discard_stdout()
            return self.outcome
        if self._debug:
            traceback.print_exception(error)
        if isinstance(error, KeyboardInterrupt):
            self.warn(self.on_interrupt)
            return INTERRUPTED
        self.warn(f"error: {_in_words(error)}", style="red")
        return FAILED

    def say(self, *results: RenderableType, style: str = "") -> None:
        """Write results to stdout, unless the result is JSON."""
        if not self.as_json:
            console = _console(stderr=False)
            for result in results:
                if console.is_terminal:
                    console.print(result, style=style or None)
                else:
                    typer.echo(_as_lines(result, console))

    def note(self, text: str, *, style: str = "dim") -> None:
        """Write a hint to stderr, unless told to be quiet."""
        if not self._silent:
            self.warn(text, style=style)

    def warn(self, text: str, *, style: str = "") -> None:
        """Write to stderr, also when told to be quiet."""
        sys.stdout.flush()
        with contextlib.suppress(BrokenPipeError):
            _console(stderr=True).print(printable(text), style=style or None, soft_wrap=True)

    def json(self, value: Any) -> None:
        """Write one JSON value to stdout, where the result is JSON."""
        if self.as_json:
            text = json.dumps(value, ensure_ascii=False, indent=2)
            self.raw(text.encode("utf-8", errors="backslashreplace") + b"\n")

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout."""
        typer.echo(data, nl=False)

    def confirm(self, question: str, *, flag: str) -> None:
        """Ask a yes-or-no question on the terminal, and end the command unless the answer is yes.

        Args:
            question: What to ask, on stderr.
            flag: The option that answers it.

        Raises:
            UsageError: There is nobody to ask.
        """
        from index.errors import UsageError

        if self._silent or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"this asks first, and there is no terminal to ask on. Add {flag} to go ahead")
        try:
            agreed = typer.confirm(printable(question), err=True)
        except typer.Abort as error:
            raise KeyboardInterrupt from error
        if not agreed:
            self.warn("Nothing was changed.")
            raise typer.Exit(0)

    def progress(self, doing: str, *, unit: str = "pictures") -> Ticker:
        """Return a progress display: a bar on a terminal, plain lines otherwise, nothing when quiet.

        Args:
            doing: What is going on, e.g. "Scanning".
            unit: What is counted.
        """
        from detector.commands.progress import Bar, Lines, Ticker

        console = _console(stderr=True)
        if self._silent:
            return Ticker(doing, unit)
        if console.is_terminal and not console.is_dumb_terminal:
            return Bar(doing, unit, console)
        return Lines(doing, unit, console)


class _Repeated(logging.Handler):
    """Shows each warning of the API once, however often a file is read."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output
        self._seen: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message not seen before."""
        text = record.getMessage()
        if text not in self._seen:
            self._seen.add(text)
            self._output.note(f"note: {text}", style="yellow")


def printable(text: str) -> str:
    """Return text whose only control characters are its line breaks."""
    from detector.reports.wording import plain

    return "\n".join(plain(line) for line in text.split("\n"))


def this_command(*more: str) -> str:
    """Return the command line of this process, ready to paste, with words added that it lacks."""
    return command_line("detector", *sys.argv[1:], *(word for word in more if word not in sys.argv))


def command_line(*words: str | Path) -> str:
    """Return words as they are typed in a shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Patient(Console):
        """A console that leaves a closed pipe to its caller; rich would exit with 1, which means flagged."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH
    return Patient(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _as_lines(result: RenderableType, console: Console) -> str:
    """Return a result for a file or a program: a sentence on one line, no blanks at line ends."""
    with console.capture() as captured:
        console.print(result, soft_wrap=type(result).__name__ in ("str", "Text"))
    return "\n".join(line.rstrip() for line in captured.get().removesuffix("\n").split("\n"))


def _in_words(error: BaseException) -> str:
    if isinstance(error, DetectorError):
        return str(error)
    if isinstance(error, OSError):
        named = isinstance(error.filename, (str, os.PathLike))
        place = f"{os.fspath(error.filename)}: " if named else "reading or writing failed: "
        return f"{place}{error.strerror or error}. Check the path, its permissions and the free space"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # until Python 3.13
        return f"{str(error).removeprefix('Symlink loop from ')}: is a link that leads to itself. Name another path"
    if isinstance(error, MemoryError):
        return "memory is used up. Run it again with --workers 1"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"unexpected {said}. Run it again with --debug, and report what it prints, with detector doctor --json"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _discard_stdout() -> None:
    """Point stdout at nothing: the interpreter's last flush would complain about the closed pipe."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
