"""HTML that cannot be forgotten to be escaped: everything is text unless it is `Markup`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from detector.reports.wording import plain

_VOID = frozenset({"img", "meta", "link", "br", "input", "path", "wbr"})
_SLOT = re.compile(r"<!--slot:([a-z_]+)-->")


class Markup(str):
    """A piece of finished HTML. Only this module and files shipped with the package make it."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Return text as HTML: escaped, with invisible and order-changing characters made visible."""
    return Markup(html.escape(plain(value), quote=True))


def element(tag: str, *children: Markup | str | None, **attributes: str | int | bool | None) -> Markup:
    """Return one element.

    Args:
        tag: Its name.
        children: Text (escaped), `Markup` (as it is) or None (left out).
        attributes: By name; a trailing underscore is dropped, others become hyphens. None and False leave it
            out, True writes it bare.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{written}>" if tag != "path" else f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{joined(children)}</{tag}>")


def joined(children: Iterable[Markup | str | None], separator: str = "") -> Markup:
    """Return pieces one after the other, text escaped, None left out."""
    pieces = (c if isinstance(c, Markup) else text(c) for c in children if c is not None)
    return Markup(separator.join(pieces))


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    written = name.removesuffix("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{text(str(value))}"'


def link(url: str) -> Markup:
    """Return a link where `url` is a plain http(s) address, otherwise its text."""
    try:
        parts = urlsplit(url.strip())
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and len(url.split()) == 1
    except ValueError:
        fits = False
    if not fits or plain(url) != url:
        return element("bdi", url)
    return element(
        "a",
        re.sub(r"^https?://(www\.)?", "", url.strip()),
        href=url.strip(),
        rel="noopener noreferrer nofollow",
        target="_blank",
    )


def filled(template: str, slots: dict[str, Callable[[], Iterable[Markup]]]) -> Iterator[Markup]:
    """Yield a shipped template piece by piece, each ``<!--slot:name-->`` replaced by what its function gives.

    Raises:
        KeyError: The template names a slot that is not given.
    """
    for position, piece in enumerate(_SLOT.split(template)):
        if position % 2:
            yield from slots[piece]()
        else:
            yield Markup(piece)
