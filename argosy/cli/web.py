"""`argosy web`: serve a chat page and an artefact to a browser on this machine."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

import click

from argosy.cli import console
from argosy.cli.base import ModelName
from argosy.cli.base import command as argosy_command

if TYPE_CHECKING:
    from argosy.web.hosting import HttpServer


@argosy_command(
    "web",
    examples=[
        "argosy web dist/out/smollm2-135m-q4f16_1",
        "argosy web smollm2-135m --port 8080 --no-open",
    ],
)
@click.argument("artefact", type=ModelName(), metavar="DIR|MODEL")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N",
    help="Listen on this port; 0 is any free one.  [default: a free port, the same each time for a directory]",
)  # fmt: skip
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
    help="Listen on this address; any but a loopback address opens the artefact to other machines.",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Print the address and open no browser.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON once it listens: url, host, port, ...")
def command(artefact: str, port: int | None, host: str, no_open: bool, as_json: bool) -> None:
    """Chat with a model in the browser, on this machine's GPU.

    Serves the chat page, and an artefact built with --target webgpu, to this machine only, until Ctrl-C.
    """
    from argosy.compiler.targets.table import BROWSER_TARGET
    from argosy.dist.store import find_artefact
    from argosy.support.progress import open_progress
    from argosy.web.files import artefact_files, page_files
    from argosy.web.page import find_page
    from argosy.web.server import Site, listen, stable_port

    target = BROWSER_TARGET
    directory = find_artefact(artefact, target.name)
    with open_progress() as progress:
        files = artefact_files(directory, progress, target.name, target.schemes or ())
        files |= page_files(find_page(progress, console.say))
    with listen(Site(files, console.say), host, port, stable_port(directory)) as server:
        if server.open_to_others:
            console.say(
                f"note: `--host {host}` lets every machine that reaches this one load the model; their browsers have "
                "WebGPU for pages of https and localhost only"
            )
        _announce(server, directory.resolve().name, as_json)
        _serve(server, opens=not no_open)


def _announce(server: HttpServer, name: str, as_json: bool) -> None:
    """Print the server's address to stdout."""
    if as_json:
        line = {"url": server.url, "host": server.host, "port": server.port, "artefact": name}
        console.data_json(line, indent=None)
        return
    console.data(server.url)
    console.say(f"serves {name} to browsers on this machine; Ctrl-C ends it")


def _serve(server: HttpServer, opens: bool) -> None:
    """Answer requests until Ctrl-C or SIGTERM, which are both a normal end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        if opens:
            _open(server.url)
        server.serve_forever()
    except KeyboardInterrupt:
        console.say("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def _open(url: str) -> None:
    """Open the page in a browser, if there is a display."""
    import webbrowser

    from argosy.web.tools import can_open_browser

    if can_open_browser():  # in a thread, because some browsers block until they are closed
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    else:
        console.say("there is no display here: open the address in a browser yourself")
