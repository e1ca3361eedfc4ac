"""Read the names of sections, imports and exports from WebAssembly modules.

Follows the binary format of the specification (https://webassembly.github.io/spec/core/binary/modules.html).
"""

from __future__ import annotations

from dataclasses import dataclass, field

IMPORT, EXPORT, CUSTOM = 2, 7, 0
FUNCTION = 0


@dataclass
class WasmModule:
    """`imports` are `module.name`, `exports` names, `custom` the names of custom sections; functions only by kind."""

    imports: set[str] = field(default_factory=set)
    exports: set[str] = field(default_factory=set)
    custom: set[str] = field(default_factory=set)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        """Read an unsigned LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def take(self, count: int) -> bytes:
        taken = self.data[self.at : self.at + count]
        assert len(taken) == count, "the module is cut off"
        self.at += count
        return taken

    def name(self) -> str:
        return self.take(self.number()).decode()


def read_module(data: bytes) -> WasmModule:
    """Read the names in the module `data`, whose imports are functions only."""
    assert data[:8] == b"\0asm\1\0\0\0"
    module, reader = WasmModule(), _Reader(data)
    reader.at = 8
    while reader.at < len(data):
        section = reader.byte()
        body = _Reader(reader.take(reader.number()))
        if section == CUSTOM:
            module.custom.add(body.name())
        elif section == IMPORT:
            for _ in range(body.number()):
                module.imports.add(f"{body.name()}.{body.name()}")
                assert body.byte() == FUNCTION, "an import that is no function"
                body.number()
        elif section == EXPORT:
            for _ in range(body.number()):
                module.exports.add(body.name())
                body.byte()
                body.number()
    return module
