"""How far a command is: a bar on a terminal, plain lines otherwise, with rate and time left."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from detector.reports.wording import duration_in_words

if TYPE_CHECKING:
    from rich.console import Console

RATE_AFTER_S = 1.0
"""Pictures come in batches: a rate over less than this is chance."""

RATE_WINDOW_S = 20.0
"""The rate is that of the last seconds: what an earlier run did passes by in no time and says nothing."""

LINE_EVERY_S = 5.0
SLOWEST_LINE_S = 60.0
DRAWN_EVERY_S = 0.1


class Pace:
    """Rate and time left, from counts as they come in."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, done: int) -> None:
        """Take a count."""
        seen = self._seen
        if len(seen) > 1 and now_s - seen[-1][0] < RATE_WINDOW_S / 100:
            seen.pop()
        seen.append((now_s, done))
        while len(seen) > 2 and now_s - seen[0][0] > RATE_WINDOW_S:
            seen.popleft()

    def per_second(self) -> float:
        """Return the rate, or 0 while it is not known."""
        if len(self._seen) < 2:
            return 0.0
        (start_s, before), (now_s, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now_s - start_s) if now_s - start_s >= RATE_AFTER_S else 0.0

    def in_words(self, done: int, total: int | None) -> str:
        """Return ``· 25 a second · 40 s left``, as far as it is known."""
        rate = self.per_second()
        if rate <= 0:
            return ""
        words = f" · {rate_in_words(rate)}"
        if total is not None and total > done:
            left_s = math.ceil((total - done) / rate)
            words += f" · {f'{left_s} s' if left_s < 60 else duration_in_words(left_s)} left"
        return words


class Ticker:
    """Shows nothing; the base of what does. A context manager."""

    def __init__(self, doing: str, unit: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep what to call it."""
        self.doing = doing
        self.unit = unit
        self.clock = clock
        self.pace = Pace()
        self._started_s = clock()

    def __enter__(self) -> Ticker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def update(self, done: int, total: int | None, note: str = "") -> None:
        """Take a count.

        Args:
            done: So far.
            total: Of how many, or None where that is not known.
            note: A few words more.
        """
        now_s = self.clock()
        self.pace.add(now_s, done)
        self.show(now_s - self._started_s, done, total, note)

    def show(self, elapsed_s: float, done: int, total: int | None, note: str) -> None:
        """Show a count; here: do not."""

    def stop(self) -> None:
        """Take the display away."""

    def words(self, done: int, total: int | None, note: str) -> str:
        """Return a count with rate, time left and note."""
        count = f"{done:,} {self.unit}" if total is None else f"{done:,} of {total:,} {self.unit}"
        return count + self.pace.in_words(done, total) + (f" · {note}" if note else "")


class Lines(Ticker):
    """Plain lines: every ten per cent or five seconds, more seldom as it takes longer."""

    def __init__(
        self, doing: str, unit: str, console: Console, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to a console."""
        super().__init__(doing, unit, clock=clock)
        self._console = console
        self._shown_s = 0.0
        self._tenth = 0

    def show(self, elapsed_s: float, done: int, total: int | None, note: str) -> None:
        """Write a line where one is due."""
        tenth = 10 * done // total if total else 0
        since_s = elapsed_s - self._shown_s
        every_s = min(max(LINE_EVERY_S, elapsed_s / 20), SLOWEST_LINE_S)
        if since_s >= every_s or (tenth > self._tenth and since_s >= 1.0):
            self._shown_s, self._tenth = elapsed_s, tenth
            self._console.print(f"{self.doing}: {self.words(done, total, note)}", soft_wrap=True)


class Bar(Ticker):
    """A bar, drawn over itself and gone at the end."""

    def __init__(self, doing: str, unit: str, console: Console) -> None:
        """Draw on a console."""
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__(doing, unit)
        self._drawn_s = -1.0
        self._progress = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[words]}", style="default"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(doing, total=None, words="looking at what is there …")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def show(self, elapsed_s: float, done: int, total: int | None, note: str) -> None:
        """Draw the count, at most ten times a second."""
        if elapsed_s - self._drawn_s >= DRAWN_EVERY_S or done == total:
            self._drawn_s = elapsed_s
            words = self.words(done, total, note)
            self._progress.update(self._task, completed=done, total=total, words=words)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()


def rate_in_words(per_second: float) -> str:
    """Return ``25 a second``, ``2.5 a second`` or ``12 a minute``."""
    if per_second >= 10:
        return f"{per_second:,.0f} a second"
    return f"{per_second:.1f} a second" if per_second >= 1 else f"{60 * per_second:.0f} a minute"
