"""`detector serve`: the artists' pages and the REST API over an index, until Ctrl-C."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.commands.console import Output, command_line
from detector.commands.options import (
    TUNING_PANEL,
    AllowLicence,
    Debug,
    Device,
    IndexFolder,
    Json,
    PolicyFile,
    Quiet,
    Workers,
    policy_of,
)

if TYPE_CHECKING:
    from detector.server.options import ServerOptions

ACCESS_PANEL = "Access"


# The command line names its options one by one, so this function has more parameters than others may.


def serve(
    *,
    index: IndexFolder,
    scans: Annotated[
        list[Path] | None,
        typer.Option(
            "--scans",
            metavar="FILE",
            help="Findings to show and to look works up in, as written by [b]detector scan --jsonl[/b] or by an "
            "audit. Can be given several times.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address to listen at. Any but this machine's own needs --token-file.",
            rich_help_panel=ACCESS_PANEL,
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Port to listen at; 0 takes a free one.",
            rich_help_panel=ACCESS_PANEL,
        ),
    ] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with a token that every visitor has to name.",
            rich_help_panel=ACCESS_PANEL,
            show_default=False,
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allowed-host",
            metavar="NAME",
            help="Name under which browsers reach the server, besides its address. Can be given several times.",
            rich_help_panel=ACCESS_PANEL,
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        int,
        typer.Option(
            "--rate",
            metavar="N",
            min=0,
            help="Requests a minute that each address may send; 0 sets no limit.",
            rich_help_panel=ACCESS_PANEL,
        ),
    ] = 240,
    no_requests: Annotated[
        bool,
        typer.Option("--no-requests", help="Take no requests for removal.", rich_help_panel=ACCESS_PANEL),
    ] = False,
    allow_licence: AllowLicence = None,
    policy: PolicyFile = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    workers: Workers = 0,
    device: Device = None,
    max_pixels: Annotated[
        int,
        typer.Option(
            "--max-pixels",
            metavar="N",
            min=1,
            help="Pixels of the largest picture that may be uploaded.",
            rich_help_panel=TUNING_PANEL,
        ),
    ] = 60_000_000,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve the pages and the API until interrupted."""
    with Output(quiet=quiet, as_json=as_json, debug=debug) as output:
        from index.errors import UsageError

        try:
            from detector.server import running
            from detector.server.app import create_app
            from detector.server.options import ServerOptions
        except ModuleNotFoundError as error:
            raise UsageError(
                f"{error.name} is missing, which the server needs. Run: pip install 'replication-detector[server]'"
            ) from error

        for path in scans or ():
            if not path.exists():
                raise UsageError(f"--scans {path}: does not exist. Name findings of detector scan --jsonl")
        options = ServerOptions(
            index=index,
            findings=tuple(scans or ()),
            host=host,
            port=port,
            token=running.read_token(token_file) if token_file is not None else "",
            allowed_hosts=tuple(allowed_host or ()),
            rate_per_minute=rate,
            workers=workers,
            max_pixels=max_pixels,
            allow_requests=not no_requests,
            policy=policy_of(allow_licence, policy),
            device=device,
        )
        output.on_interrupt = "Stopped."
        with running.bind(options) as bound:
            app = create_app(options)
            app.state.engine.open()
            address = running.address_of(options, bound)
            output.json({"address": address, "index": str(index), "generation": app.state.engine.generation})
            output.say(f"Serving {index} at {address}")
            sys.stdout.flush()
            _explain(output, options, address, token_file)
            if open_browser:
                import webbrowser

                webbrowser.open(address)
            with running.logging_to_stderr(quiet=quiet):
                running.run(app, bound)


def _explain(output: Output, options: ServerOptions, address: str, token_file: Path | None) -> None:
    """Say what there is, who can reach it, and how to stop it."""
    from detector.server.options import is_loopback

    output.note(f"Pages for artists: {address}   REST API: {address}docs   Stop with Ctrl-C.")
    if options.policy is not None:
        output.note("Matches that the policy clears are shown and do not count.")
    if not is_loopback(options.host):
        output.note(
            "Others can reach it, with the token. It speaks plain HTTP: on a network that you do not trust, put a "
            "server that speaks HTTPS before it, and name that one's host with --allowed-host.",
            style="yellow",
        )
    elif options.token:
        output.note("Visitors have to name the token.")
    if token_file is not None and os.name == "posix" and token_file.stat().st_mode & 0o077:
        step = command_line("chmod", "600", token_file)
        output.note(f"Other users of this machine can read the token. Run: {step}", style="yellow")
