"""What a request can be refused for, as exceptions that become one JSON answer.

They are HTTP's own, with a status each, so they stand here and not among the errors of the index.
"""

from __future__ import annotations

import math

from index.errors import DetectorError


class Problem(DetectorError):
    """A request that cannot be answered as asked.

    Attributes:
        status: HTTP status, 400–599.
        code: Short machine-readable reason.
        message: For people: what failed and what to do.
        headers: Of the answer, besides the usual ones.
    """

    status = 400
    code = "bad_request"

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status or self.status
        self.code = code or self.code
        self.headers = headers or {}

    def to_dict(self) -> dict[str, dict[str, str]]:
        """Return the body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


class Busy(Problem):
    """Too much is waiting already."""

    status = 429
    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        seconds = max(1, math.ceil(retry_after_s))
        super().__init__(f"{message}. Try again in {seconds} s", headers={"Retry-After": str(seconds)})


class TooLarge(Problem):
    """More bytes or pictures than one request may hold."""

    status = 413
    code = "too_large"


class WrongMediaType(Problem):
    """A body of a type that is not read here."""

    status = 415
    code = "wrong_media_type"


class BadInput(Problem):
    """A field is missing, unknown or out of bounds."""

    status = 422
    code = "bad_input"


class NotFound(Problem):
    """There is nothing of that name or number."""

    status = 404
    code = "not_found"


class Forbidden(Problem):
    """Not allowed, whoever asks."""

    status = 403
    code = "forbidden"
