"""Take the picture of the chat page for the documentation: docs/web.png.

    python tests/web/take_picture.py dist/out/smollm2-135m-q4f16_1

`setup.sh` installs what this needs; `argosy build --target webgpu` makes the artefact.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from web.machine import LAVAPIPE_GPU, ROOT, drive, missing_chromium, served

PICTURE = ROOT / "docs" / "web.png"
# The model is very small: these are questions that it answers well.
QUESTIONS = ["Name three fruits.", "What is the capital of Italy?"]


def main() -> None:
    """Take the picture and print the answers in it."""
    if (reason := missing_chromium()) is not None:
        sys.exit(reason)
    driver = LAVAPIPE_GPU if LAVAPIPE_GPU.is_file() else None
    with served(Path(sys.argv[1])) as server:
        seen = drive("picture", timeout=900, url=server.url, driver=driver, picture=PICTURE, questions=QUESTIONS)
    for question, answer in zip(QUESTIONS, seen["answers"], strict=True):
        print(f"> {question}\n{answer['text']}\n({answer['ending'] or 'ended by itself'}; {answer['stats']})\n")
    if seen["errors"]:
        sys.exit("\n".join(seen["errors"]))


if __name__ == "__main__":
    main()
