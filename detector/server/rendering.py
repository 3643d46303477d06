"""Templates → pages: one Jinja2 environment in which nothing that was recorded or typed can break out of its place."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from detector.report import LEVEL_WORDS, Match
from detector.reports import markup, wording
from detector.server.options import ServerOptions

FOLDER = Path(__file__).parent
TEMPLATES, STATIC = FOLDER / "templates", FOLDER / "static"
LOOK = FOLDER.parent / "reports" / "look.css"
"""What the pages share with reports that are written to files; served as if it lay in `STATIC`."""


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page.

    Args:
        request: What it answers.
        template: Name of a file in ``templates/``.
        status: Of the answer.
        **values: What the template shows.
    """
    options: ServerOptions = request.app.state.options
    shown = {
        "site": options.title,
        "options": options,
        "has_scans": bool(options.findings),
        "guarded": bool(options.token),
        "path": request.url.path,
        "look": address_of(LOOK.name),
        "styles": address_of("page.css"),
        "script": address_of("page.js"),
        "icon": address_of("icon.svg"),
    }
    return HTMLResponse(environment().get_template(template).render({**shown, **values}), status)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the environment; every value is escaped, and shown without what is invisible or reorders text."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters.update(
        lines=_lines,
        typed=_typed,
        moment=lambda text: text.replace("T", ", ", 1).replace("+00:00", " UTC"),
        number=lambda value: f"{value:,}",
        level=wording.level_in_words,
        percent=wording.percent,
        reason=wording.reason_in_words,
        short=wording.shortened,
        file_name=wording.file_name,
        link=_link,
    )
    made.globals.update(
        LEVEL_WORDS=LEVEL_WORDS,
        NOT_RECORDED=wording.NOT_RECORDED,
        plural=wording.plural,
        headline=wording.headline,
        named=_named,
    )
    return made


@lru_cache(maxsize=8)
def address_of(name: str) -> str:
    """Return where a file of ``static/``, or `LOOK`, is loaded from; another after it has changed."""
    path = LOOK if name == LOOK.name else STATIC / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"


def sentence(text: str) -> str:
    """Return a message as a sentence: with a capital and a full stop."""
    closed = text if text.endswith((".", "!", "?", "…")) else text + "."
    return closed[:1].upper() + closed[1:]


def _shown(value: Any) -> Any:
    return wording.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Return text of several lines, each a line."""
    return Markup("<br>").join(wording.plain(line) for line in text.splitlines())


def _typed(text: str) -> Markup:
    """Return text for a box that it was typed into: escaped, its lines kept."""
    return Markup("\n").join(wording.plain(line) for line in text.splitlines())


def _named(match: Match) -> str:
    """Return what a match's reference is called."""
    place = wording.described(match.reference.occurrences)
    by = f" by {place.artist.strip()}" if place.artist.strip() else ""
    return wording.title_of(place) + by


def _link(text: str) -> Markup:
    """Return a link where this is a web address, else the text."""
    return Markup(markup.link(text))
