"""`/docs`: Swagger UI over the API's description, from files on this machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from index.errors import UsageError

router = APIRouter()

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="stylesheet" href="/static/swagger/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript. The description itself: <a href="/openapi.json">/openapi.json</a></noscript>
<script src="/static/swagger/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

SCRIPT = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


@router.get("/docs", include_in_schema=False)
async def page(request: Request) -> Response:
    """Show the API's description."""
    return HTMLResponse(PAGE)


@router.get("/docs/start.js", include_in_schema=False)
async def script(request: Request) -> Response:
    """Return what starts Swagger UI; a script of its own, for none is run from within a page."""
    return Response(SCRIPT, media_type="text/javascript")


def swagger_folder() -> Path:
    """Return where Swagger UI's files lie: in the package fastapi-offline, of which nothing else is used.

    Raises:
        UsageError: It is not installed.
    """
    found = find_spec("fastapi_offline")
    if found is None or found.origin is None:
        raise UsageError(
            "the server's libraries are missing. Run: pip install 'replication-detector[server]'"
        )
    return Path(found.origin).parent / "static"
