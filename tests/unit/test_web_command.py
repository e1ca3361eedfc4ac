"""`argosy web` as a person runs it: what it serves, how it ends, what it refuses, and the page that it builds."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from web_artefact import ARM, BUILD, NAME, WASM, WEBGPU, save_artefact, save_page

from argosy.cli.app import cli
from argosy.doctor import examine
from argosy.support.errors import ArgosyError, TargetError
from argosy.support.progress import SilentProgress
from argosy.web import page, tools
from argosy.web.page import find_page

# Run the command line with the page in the folder given by the first argument.
PROGRAM = """
import sys
from pathlib import Path
from argosy.web import page
page.find_page.__defaults__ = (Path(sys.argv[1]), Path(sys.argv[1], "no sources"))
from argosy.cli.app import cli
cli.main(sys.argv[2:], prog_name="argosy")
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ARGOSY_")]:
        monkeypatch.delenv(name)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_artefact(tmp_path / NAME, WEBGPU)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    static = save_page(tmp_path / "static")

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(static), "web", *arguments], env={**os.environ, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    return run


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return bytes(answer.read())


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


# -- a run


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_run_from_start_to_end(
    end: signal.Signals, directory: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start(str(directory))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert b"<title>chat" in fetch(url)
    assert fetch(f"{url}artefact/{WASM}") == (directory / WASM).read_bytes()
    process.send_signal(end)
    rest, said = process.communicate(timeout=20)
    assert process.returncode == 0 and rest == ""
    assert "Traceback" not in said and said.splitlines()[-1] == "stopped"
    assert f"serves {NAME} to browsers on this machine; Ctrl-C ends it" in said
    assert "there is no display here: open the address in a browser yourself" in said
    assert "check the artefact" in said


def test_json_and_a_port(directory: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    first = start(str(directory), "--json", "--no-open")
    assert first.stdout is not None
    said = json.loads(first.stdout.readline())
    assert said == {
        "url": f"http://127.0.0.1:{said['port']}/", "host": "127.0.0.1", "port": said["port"], "artefact": NAME,
    }  # fmt: skip
    second = start(str(directory), "--port", str(said["port"]))
    assert second.communicate(timeout=60)[1].splitlines()[-2:] == [
        f"error: port {said['port']} of `127.0.0.1` is taken by another program",
        "hint: leave `--port` out to use a free one",
    ]
    assert second.returncode == 2
    first.send_signal(signal.SIGINT)
    assert "display" not in first.communicate(timeout=20)[1]


def test_the_browser_is_opened(directory: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser.sh"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    process = start(str(directory), BROWSER=str(browser))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    until = time.monotonic() + 20
    while not opened.is_file() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert opened.read_text() == url


def test_other_machines_are_let_in_with_a_word(directory: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start(str(directory), "--host", "0.0.0.0", "--no-open")
    assert process.stdout is not None
    assert fetch(process.stdout.readline().strip())
    process.send_signal(signal.SIGINT)
    (note,) = (line for line in process.communicate(timeout=20)[1].splitlines() if line.startswith("note: "))
    assert note.startswith("note: `--host 0.0.0.0` lets every machine that reaches this one load the model")


# -- what is refused


def refused(result: Result, code: int = 1) -> list[str]:
    """Return the two lines of an error."""
    assert result.exit_code == code and result.stdout == "" and "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith("check the artefact")]
    assert len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint: ")
    return lines


def test_an_artefact_for_other_devices(tmp_path: Path) -> None:
    directory = save_artefact(tmp_path / NAME, ARM)
    error, hint = refused(invoke("web", str(directory)))
    assert error == f"error: `{directory}` was not built for a browser: it holds arm64"
    assert hint == f"hint: {BUILD} --output {directory}"


def test_a_model_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_DIST", "nothing/is/built/here")
    _, hint = refused(invoke("web", "smollm2-135m"))
    assert hint == "hint: argosy build --model smollm2-135m --target webgpu --quantization q4f16_1"


@pytest.mark.parametrize("arguments", [["./nothing"], [".", "--port", "65536"], [".", "--port", "x"], [], ["."]])
def test_what_cannot_be_served(arguments: list[str]) -> None:
    result = invoke("web", *arguments)
    assert result.exit_code in (1, 2) and result.stderr.startswith("error: ") and "hint: " in result.stderr
    assert "--target cpu" not in result.stderr


def test_a_damaged_artefact(directory: Path) -> None:
    (directory / WASM).write_bytes(b"\0asm\2\0\0\0")
    error, hint = refused(invoke("web", str(directory)))
    assert f"{WASM}` was altered" in error and hint == f"hint: {BUILD} --output {directory}"


def test_an_artefact_that_mlc_made(directory: Path) -> None:
    (directory / "argosy-manifest.json").unlink()
    assert "was not built for a browser: it holds no library" in refused(invoke("web", str(directory)))[0]


def test_chat_says_what_to_do_with_an_artefact_for_the_browser(directory: Path) -> None:
    error, hint = refused(invoke("chat", str(directory), "--prompt", "Hi"))
    assert error == f"error: the library `{WASM}` is for `webgpu`, which this runtime does not drive"
    assert hint.startswith(f"hint: `argosy web {directory}` chats in the browser; for this machine's processor: argosy")
    assert hint.endswith(f"{BUILD.replace('webgpu', 'cpu')} --output {directory}")


def test_doctor_speaks_of_the_browser(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_DIST", str(directory.parent))
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    rows = {check.name: check for check in examine()}
    assert rows["artefact"].ok and rows["artefact"].detail == f"{NAME} runs in a browser: argosy web {directory}"
    assert not rows["browser"].ok and "chromium" in (rows["browser"].remedy or "")
    assert {"chat page", "browser linker"} <= set(rows)


# -- the page

NPM = """#!{python}
import json, pathlib, sys
with open("calls.txt", "a") as calls:
    print(*sys.argv[1:3], file=calls)
if sys.argv[1] == "ci":
    pathlib.Path("node_modules").mkdir(exist_ok=True)
    pathlib.Path("node_modules/.package-lock.json").write_text(pathlib.Path("package-lock.json").read_text())
else:
    if pathlib.Path("src/main.ts").read_text() == "wrong":
        print("> vite build"), print("src/main.ts(1,1): error TS2304: no name `wrong`."), sys.exit(2)
    made = pathlib.Path(sys.argv[sys.argv.index("--outDir") + 1])
    made.mkdir()
    (made / "index.html").write_text(pathlib.Path("src/main.ts").read_text())
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the sources of a page, and an npm that is a few lines of Python."""
    sources, programs = tmp_path / "web", tmp_path / "bin"
    (sources / "src").mkdir(parents=True)
    programs.mkdir()
    (sources / "package.json").write_text("{}")
    packages = {
        "": {},
        "node_modules/vite": {"version": "8.0.0"},
        "node_modules/mac": {"version": "1", "optional": True},
    }
    (sources / "package-lock.json").write_text(json.dumps({"packages": packages}))
    (sources / "src" / "main.ts").write_text("one")
    for name, text in (("node", "#!/bin/sh\necho v22.12.0\n"), ("npm", NPM.format(python=sys.executable))):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    return sources


def made(checkout: Path, notes: list[str] | None = None) -> str:
    """Return the text of the page."""
    report = [].append if notes is None else notes.append
    return (find_page(SilentProgress(), report, checkout.parent / "static", checkout) / "index.html").read_text()


def calls(checkout: Path) -> list[str]:
    found = (checkout / "calls.txt").read_text().splitlines()
    (checkout / "calls.txt").unlink()
    return found


def test_the_page_is_built_once_and_again_when_its_sources_change(checkout: Path) -> None:
    assert made(checkout) == "one" and calls(checkout) == ["ci --no-audit", "run build:page"]
    assert made(checkout) == "one" and not (checkout / "calls.txt").exists()
    (checkout / "src" / "main.ts").write_text("two")
    assert made(checkout) == "two" and calls(checkout) == ["run build:page"]
    (checkout / "package-lock.json").write_text('{"packages": {"node_modules/vite": {"version": "8.0.1"}}}')
    assert made(checkout) == "two" and calls(checkout) == ["ci --no-audit", "run build:page"]
    assert sorted(path.name for path in checkout.parent.iterdir()) == ["bin", "static", "web"]


def test_a_build_that_fails_leaves_the_page_as_it_was(checkout: Path) -> None:
    made(checkout)
    (checkout / "src" / "main.ts").write_text("wrong")
    with pytest.raises(ArgosyError, match=r"`npm run build:page` failed: src/main\.ts.*no name `wrong`") as failure:
        made(checkout)
    assert "npm run build:page" in (failure.value.hint or "")
    assert (checkout.parent / "static" / "index.html").read_text() == "one"
    assert sorted(path.name for path in checkout.parent.iterdir()) == ["bin", "static", "web"]


def test_without_node_one_sentence_says_how(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TargetError, match="`node` is not there to build the chat page") as refusal:
        made(checkout)
    assert "Node.js 20.19 or newer" in (refusal.value.hint or "") and "npm ci" in (refusal.value.hint or "")
    (checkout.parent / "bin" / "node").write_text("#!/bin/sh\necho v18.19.0\n")
    monkeypatch.setenv("PATH", f"{checkout.parent / 'bin'}:/bin:/usr/bin")
    with pytest.raises(TargetError, match=r"Node\.js `18\.19\.0` is too old"):
        made(checkout)


def test_an_older_page_is_better_than_none(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(checkout)
    (checkout / "src" / "main.ts").write_text("two")
    monkeypatch.setenv("PATH", "/nowhere")
    notes: list[str] = []
    assert made(checkout, notes) == "one"
    assert notes == ["note: the chat page is older than its sources, and `node` is not there to build the chat page"]


def test_an_installation_has_its_page_or_says_why_not(tmp_path: Path) -> None:
    static = tmp_path / "static"
    with pytest.raises(ArgosyError, match="this installation holds no chat page") as refusal:
        find_page(SilentProgress(), print, static, tmp_path / "none")
    assert "make wheel" in (refusal.value.hint or "")
    assert find_page(SilentProgress(), print, save_page(static), tmp_path / "none") == static


def test_the_sources_of_this_checkout_are_found() -> None:
    assert (page.SOURCES / "package.json").is_file() and page.STATIC.parent.name == "web"
    assert len(page.source_digest(page.SOURCES)) == 64
