"""Generate the tables of README.md and docs/*.md from the code.

`python docs/generate.py` writes them; `--check` only reports stale pages. A table is between
`<!-- generated: NAME -->` and `<!-- end -->`, where NAME is a key of `TABLES`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

import argosy
from argosy.cli.app import COMMANDS, cli
from argosy.compiler.targets import TARGETS
from argosy.dist.sampling import INTEGER_RANGES, RANGES, allowed
from argosy.model_defs.checkpoint.gguf_config import BUILDERS
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_spec
from argosy.quant.rounding import ROUNDINGS
from argosy.quant.scheme import FORMATS, SCHEMES, Format, Scheme
from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.support import env, errors

ROOT = Path(__file__).resolve().parents[1]
FAMILY_TESTS = ROOT / "tests" / "unit" / "test_families.py"
OF_MLC = {"q0f32", "q0f16", "q3f16_1", "q4f16_1", "q4f32_1"}  # schemes that mlc-llm has too, with the same layout
SETTINGS = {  # values of settings other than numbers
    "logit_bias": "token id -> the number to add to its logit; `-inf` bans it",
    "suppress_tokens": "token ids that are banned",
    "begin_suppress_tokens": "token ids that are banned at the beginning of an answer",
    "bad_words_ids": "lists of token ids, none of which is ever completed",
    "logprobs": "true or false: report the log-probability of every token",
    "stop": "a string, or several, before which the answer ends",
    "ignore_eos": "true or false: continue past the model's end of answer",
    "on_context_full": "`stop` or `slide`",
}
RETURNED = ("AnswerStream", "LoadedModel", "Reply")  # public classes that programs do not make by their constructors
EXPLAINED_ERRORS = (errors.ArgosyError, *errors.ArgosyError.__subclasses__())
_MARKED = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def families() -> str:
    """List families: network, block topology, support of GGUF, and the number of tested configs."""
    from_gguf = {_family_of_builder(builder) for builder in BUILDERS.values()} | {"mistral"}  # GGUF calls it llama
    tested = _tested_configs()
    rows = []
    for name, family in sorted(FAMILIES.items()):
        text = inspect.getmodule(family.spec).__doc__ or ""
        said = text.strip().splitlines()[0].partition(":")[2].strip().rstrip(".")
        wiring = read_spec(family.tiny_config).topology.replace("_", "-")
        if family.notice:
            said = "the text part of its checkpoints; images are left out, with a note"
            gguf = count = f"as `{name}_text`"
        else:
            count = str(tested[name])
            gguf = "yes" if name in from_gguf else "no"
        rows.append((f"`{name}`", said, wiring, "yes", gguf, count))
    return table(
        ("`model_type`", "network", "blocks", "Hugging Face", "GGUF", "configs compared with transformers"), rows
    )


def _family_of_builder(builder: Callable[..., object]) -> str:
    """Find the `model_type` that a reader of GGUF metadata writes."""
    words = {node.value for node in ast.walk(ast.parse(inspect.getsource(builder))) if isinstance(node, ast.Constant)}
    (name,) = words & set(FAMILIES)
    return str(name)


def _tested_configs() -> Counter[str]:
    """Count the rows of every family in test_families.py, whose first row stands for the tiny configs of all."""
    tree = ast.parse(FAMILY_TESTS.read_text("utf-8"))
    found = (n.value for n in tree.body if isinstance(n, ast.AnnAssign) and getattr(n.target, "id", "") == "VARIANTS")
    rows = next(value for value in found if isinstance(value, ast.Dict))
    named = [value.elts[0].value for value in rows.values if isinstance(value, ast.Tuple)]  # type: ignore[attr-defined]
    return Counter([*named, *FAMILIES])


def schemes() -> str:
    """List schemes: storage, and what the tests compare them with."""
    rows = [
        (
            f"`{scheme.name}`",
            scheme.summary,
            _bits(scheme.matrix),
            "mlc-llm's" if scheme.name in OF_MLC else "ours",
            _compared_with(scheme),
        )
        for scheme in SCHEMES.values()
    ]
    return table(("scheme", "matrices", "bits a weight", "layout", "compiled models are compared with"), rows)


def _bits(fmt: Format | None) -> str:
    if fmt is None:
        return "as in the file"
    if fmt.bits == 0:
        return "32" if fmt.dtype == "float32" else "16"
    scale = 32 if fmt.dtype == "float32" else 16
    return f"{(fmt.words_per_group * 32 + scale * (2 if fmt.has_min else 1)) / fmt.group:g}"


def _compared_with(scheme: Scheme) -> str:
    if scheme.matrix is None:
        return "torch on the values of SmolLM2's GGUF file"
    return "transformers" if scheme.name == "q0f32" else "torch on the dequantized weights"


def formats() -> str:
    """List the storage formats of matrices."""
    rows = []
    for fmt in FORMATS.values():
        stored = ", ".join(f"`{suffix}` {dtype}" for suffix, (_, dtype) in fmt.tensors((1, max(fmt.group, 1))).items())
        value = "" if not fmt.bits else "q · scale + min" if fmt.has_min else f"(q - {fmt.zero}) · scale"
        rows.append((f"`{fmt.name}`", str(fmt.bits or "-"), str(fmt.group or "-"), stored, value or "-", _bits(fmt)))
    return table(("format", "bits", "group", "tensors", "value", "bits a weight"), rows)


def targets() -> str:
    """List the values of `--target`."""
    return table(("target", "what it is"), ((f"`{entry.name}`", entry.summary) for entry in TARGETS.values()))


def roundings() -> str:
    """List the values of `--rounding`."""
    return table(("rounding", "what it does"), ((f"`{r.name}`", r.summary) for r in ROUNDINGS.values()))


def environment() -> str:
    """List the environment variables."""
    return env.markdown_table()


def settings() -> str:
    """List the fields of a `generation_config`."""
    rows = [(f"`{field.name}`", _setting(field)) for field in dataclasses.fields(GenerationConfig)]
    return table(("setting", "value"), rows)


def _setting(field: dataclasses.Field[object]) -> str:
    """Describe the values of a setting."""
    if field.name in RANGES:
        return allowed(field.name)
    if field.name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[field.name]
        return f"a whole number from {low}" + (f" to {high}" if high < 1000 else "")
    return SETTINGS[field.name]


def error_classes() -> str:
    """List the error classes and their exit codes."""
    rows = [
        (f"`{kind.__name__}`", (kind.__doc__ or "").strip().splitlines()[0], str(kind.exit_code))
        for kind in EXPLAINED_ERRORS
    ]
    return table(("class", "what it means", "exit code"), rows)


def commands() -> str:
    """Document every command with its arguments and options, from its parser."""
    return "\n".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    arguments = [p.metavar or p.name or "" for p in command.params if isinstance(p, click.Argument)]
    usage = " ".join(["argosy", name, *arguments, "[OPTIONS]"])
    text = [" ".join(part.split()) for part in (command.help or "").strip().split("\n\n")]
    rows = [_option(p) for p in command.params if isinstance(p, click.Option)]
    examples = "\n".join(getattr(command, "examples", ()))
    about = "\n\n".join(text)
    return (
        f"## `argosy {name}`\n\n```text\n{usage}\n```\n\n{about}\n\n"
        f"{table(('option', 'meaning'), rows)}\n```sh\n{examples}\n```\n"
    )


def _option(option: click.Option) -> tuple[str, str]:
    value = option.metavar or ("|".join(option.type.choices) if isinstance(option.type, click.Choice) else "")
    spelled = ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in option.opts)
    said = " ".join((option.help or "").split()).replace("<", "&lt;")  # or Markdown takes it for a tag
    shown = option.show_default and option.default is not None
    return spelled, f"{said} Default: `{option.default}`." if shown else said


def python_names() -> str:
    """Document the public names of the package: each with its docstring, its fields and its members."""
    return "\n".join(_python_name(name) for name in sorted(argosy.__all__, key=str.lower) if name != "__version__")


def _python_name(name: str) -> str:
    value = getattr(argosy, name)
    if inspect.ismodule(value):  # `build`, a package that can be called
        value = value.build_model
    kind = "class" if inspect.isclass(value) else "function"
    plain = name in RETURNED or (inspect.isclass(value) and issubclass(value, Exception))
    usage = "" if plain else f"```text\n{name}{_signature(value)}\n```\n\n"
    rows = [(f"`{member}`", said) for member, said in _members(value)] if kind == "class" else []
    members = f"\n{table(('member', 'what it is'), rows)}" if rows else ""
    return f"### `{name}`\n\n{usage}{_prose(value)}\n{members}"


def _signature(value: Callable[..., object]) -> str:
    """Write the parameters of a function or class with their defaults, without types."""
    signature = inspect.signature(value)
    shown = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "unknown")
    ]
    text = str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    return re.sub(r"<factory>", "{}", text)


def _members(value: type) -> Iterable[tuple[str, str]]:
    """Yield the public members of a class that are ours, with what their docstrings begin with; a field has none."""
    if dataclasses.is_dataclass(value) and value is not GenerationConfig:
        yield from ((field.name, f"`{field.type}`") for field in dataclasses.fields(value))
    ours = [kind for kind in reversed(value.__mro__) if kind.__module__.startswith("argosy.")]
    for name in dict.fromkeys(name for kind in ours for name in vars(kind) if not name.startswith("_")):
        member = inspect.getattr_static(value, name)
        said = (_prose(member) or "-").split("\n\n")[0]
        if isinstance(member, property | functools.cached_property):
            yield name, said
        elif inspect.isroutine(getattr(value, name)):
            yield name + _signature(getattr(value, name)), said


def _prose(value: object) -> str:
    """Return a docstring with each paragraph on one line; lists and tables stay."""
    parts = (inspect.getdoc(value) or "").split("\n\n")
    joined = (part if re.match(r"[ |*-]|\d\.", part) else " ".join(part.split()) for part in parts)
    return "\n\n".join(joined).replace("<", "&lt;")


TABLES: dict[str, Callable[[], str]] = {
    "families": families,
    "schemes": schemes,
    "formats": formats,
    "targets": targets,
    "roundings": roundings,
    "environment": environment,
    "settings": settings,
    "errors": error_classes,
    "commands": commands,
    "python-names": python_names,
}


def pages() -> list[Path]:
    """List the pages that may contain tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """Replace every table in `text` by the current one."""
    return _MARKED.sub(lambda found: f"{found[1]}{TABLES[found['name']]()}{found[4]}", text)


def main(check: bool) -> int:
    """Write the pages with stale tables, or with `check` only name them, and then return 1 if there were any."""
    stale = [page for page in pages() if filled(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        if not check:
            page.write_text(filled(page.read_text("utf-8")), "utf-8")
        print(f"{page.relative_to(ROOT)}: {'stale, run python docs/generate.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
