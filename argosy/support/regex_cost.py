"""Decide whether a regular expression of a tokenizer can be searched for in any text in reasonable time.

The engines that tokenizers use backtrack, and a pattern like `(a|aa)+b` takes them exponential time. Accepted are
patterns of which at most one unbounded repetition can be undone when a later part does not match; they take at most
quadratic time. Nothing is undone after the last part that must match, so repetitions there may be of any form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LENGTH = 16384  # characters; patterns with long lists of letters have 2,000
DEPTH = 12  # of groups
BOUND = 64  # the largest number in `{m,n}`
SIZE = 20000  # parts, with repeated ones counted as often
CHOICES = 256  # ways to match the bounded parts that a later part can undo

_INTERVAL = re.compile(r"\{(\d{1,9})(,?)(\d{0,9})\}|\{(,)(\d{1,9})\}")
_GROUP = re.compile(r"\?(?::|>|=|!|<=|<!|<[A-Za-z_]\w*>|[im]{0,2}(?:-[im]{1,2})?:)")
_FLAGS = re.compile(r"\(\?[im]{1,2}\)")
_BRACED = re.compile(r"[pPxu]\{[\^\w =:.-]{1,64}\}")
_HEX = re.compile(r"x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}")
_CHARACTERS = frozenset("sSdDwWhHnrtfvaeON")
_PLACES = frozenset("bBAzZ")


class RegexError(ValueError):
    """A regular expression could take too long, or has a construct that no tokenizer needs. Its text says which."""


@dataclass(frozen=True, slots=True)
class RegexNode:
    """A part of a pattern: `kind` is character, place, look, group or repeat. Only the last three have `options`."""

    kind: str
    options: tuple[tuple[RegexNode, ...], ...] = ()
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True, slots=True)
class _Cost:
    """The unbounded repetitions and the bounded choices that can be undone."""

    unbounded: int = 0
    choices: int = 1

    def then(self, other: _Cost) -> _Cost:
        return _Cost(self.unbounded + other.unbounded, min(self.choices * other.choices, CHOICES + 1))

    def alternatively(self, other: _Cost) -> _Cost:
        return _Cost(max(self.unbounded, other.unbounded), min(self.choices + other.choices, CHOICES + 1))


def shortest_match(pattern: str) -> int:
    """Return the number of characters of the shortest match. Raises RegexError for a pattern that is not accepted."""
    options = parse(pattern)
    _options_at_end(options)
    return _shortest(options)


def _shortest(options: tuple[tuple[RegexNode, ...], ...]) -> int:
    return min(sum(_shortest_part(part) for part in sequence) for sequence in options)


def _shortest_part(part: RegexNode) -> int:
    if part.kind in ("place", "look"):
        return 0
    if part.kind == "character":
        return 1
    return part.least * _shortest(part.options)


# -- cost


def _options_at_end(options: tuple[tuple[RegexNode, ...], ...]) -> int:
    """Check alternatives after which nothing must match.

    Returns the power of the text's length that trying them once can take: 0 or 1.
    """
    return max(_at_end(sequence) for sequence in options)


def _at_end(sequence: tuple[RegexNode, ...]) -> int:
    required = [index for index, part in enumerate(sequence) if part.kind in ("place", "look") or _shortest_part(part)]
    last = required[-1] if required else 0
    before = _Cost()
    for part in sequence[:last]:
        before = before.then(_undone(part))
    powers = [_part_at_end(part) for part in sequence[last:]]
    power = before.unbounded + (powers[0] if powers else 0)  # the last required part is tried anew after each undoing
    if power > 1:
        raise RegexError("repeats several parts that may match the same text")
    if before.choices > CHOICES:
        raise RegexError("can match the same text in too many ways")
    return max(power, *powers, 0)


def _part_at_end(part: RegexNode) -> int:
    if not part.options:
        return 0
    if part.kind == "look":
        return max(_options_at_end(part.options), int(_repeats(part)))
    if part.kind == "repeat" and part.least > 1:
        cost = _undone(part)
        if cost.choices > CHOICES:
            raise RegexError("can match the same text in too many ways")
        return cost.unbounded
    if part.kind == "repeat" and part.most is None and not _shortest(part.options):
        raise RegexError("repeats a part that may be empty")
    return _options_at_end(part.options)


def _undone(part: RegexNode) -> _Cost:
    """Return the cost of a part with something after it that may fail to match."""
    if not part.options:
        return _Cost()
    if part.kind == "look":
        return _Cost(_part_at_end(part))
    inner: _Cost | None = None
    for sequence in part.options:
        cost = _Cost()
        for item in sequence:
            cost = cost.then(_undone(item))
        inner = cost if inner is None else inner.alternatively(cost)
    assert inner is not None
    if part.kind == "group":
        return inner
    if part.most is None:
        if inner != _Cost() or not _shortest(part.options):
            raise RegexError("repeats a repetition or an alternative")
        return _Cost(1)
    if inner.unbounded and part.most > 1:
        raise RegexError("repeats a repetition")
    total = _Cost(inner.unbounded, part.most - part.least + 1)
    for _ in range(part.most):
        total = total.then(_Cost(0, inner.choices))
    return total


# -- syntax


def parse(pattern: str) -> tuple[tuple[RegexNode, ...], ...]:
    """Parse a pattern as Oniguruma does, refusing what is ambiguous or needless there. Raises RegexError."""
    if len(pattern) > LENGTH:
        raise RegexError(f"has more than {LENGTH} characters")
    parser = _Parser(pattern)
    flags = _FLAGS.match(pattern)
    parser.place = flags.end() if flags else 0
    options = parser.options(0)
    if parser.place != len(pattern):
        raise RegexError("has a `)` too many")
    return options


@dataclass(slots=True)
class _Parser:
    pattern: str
    place: int = 0
    size: int = field(default=0)

    def options(self, depth: int) -> tuple[tuple[RegexNode, ...], ...]:
        """Parse alternatives up to the end of their group."""
        if depth > DEPTH:
            raise RegexError("has groups nested too deeply")
        found: list[tuple[RegexNode, ...]] = []
        sequence: list[RegexNode] = []
        while self.place < len(self.pattern) and self.pattern[self.place] != ")":
            if self.pattern[self.place] == "|":
                self.place += 1
                found.append(tuple(sequence))
                sequence = []
            else:
                sequence.append(self.repeated(depth))
        return (*found, tuple(sequence))

    def repeated(self, depth: int) -> RegexNode:
        """Parse a part with its quantifier."""
        before = self.size
        part = self.single(depth)
        least, most, end = self.quantifier()
        if end == self.place:
            return part
        if part.kind in ("place", "look"):
            raise RegexError("repeats a place")
        if max(least, most or 0) > BOUND:
            raise RegexError(f"repeats a part more than {BOUND} times")
        self.place = end
        self.size = before + (self.size - before) * max(least, most or 1)
        if self.size > SIZE:
            raise RegexError("is too large")
        return RegexNode("repeat", ((part,),), least, most)

    def quantifier(self) -> tuple[int, int | None, int]:
        """Return the bounds of a quantifier and the place after it, which is this place if there is none."""
        text, place = self.pattern, self.place
        letter = text[place : place + 1]
        if letter and letter in "*+?":
            end = place + 1 + (text[place + 1 : place + 2] in ("?", "+"))
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[letter]
        elif found := _INTERVAL.match(text, place):
            end = found.end() + (text[found.end() : found.end() + 1] == "?" and found[2] == ",")
            least = int(found[1] or 0)
            most = int(found[3] or found[5] or 0) if found[3] or found[5] else None if found[2] else least
        else:
            return 1, 1, place
        if most is not None and most < least:
            raise RegexError("has bounds in the wrong order")
        if text[end : end + 1] in ("*", "+", "?") or _INTERVAL.match(text, end):
            raise RegexError("has one quantifier after another")
        return least, most, end

    def single(self, depth: int) -> RegexNode:
        """Parse a part without quantifier."""
        self.size += 1
        if self.size > SIZE:
            raise RegexError("is too large")
        letter = self.pattern[self.place]
        if letter == "(":
            return self.group(depth)
        if letter == "[":
            self.place = self.after_class(self.place, 0)
            return RegexNode("character")
        if letter == "\\":
            return self.escape()
        if letter in "*+?" or _INTERVAL.match(self.pattern, self.place):
            raise RegexError("has a quantifier after nothing")
        self.place += 1
        return RegexNode("place" if letter in "^$" else "character")

    def group(self, depth: int) -> RegexNode:
        start = self.place + 1
        kind = _GROUP.match(self.pattern, start)
        if kind is None and self.pattern[start : start + 1] in ("?", "*"):
            raise RegexError(f"has a group `{self.pattern[self.place : self.place + 4]}`")
        self.place = start if kind is None else kind.end()
        options = self.options(depth + 1)
        if self.place >= len(self.pattern):
            raise RegexError("has an open group")
        self.place += 1
        opening = "" if kind is None else kind[0]
        if opening in ("?<=", "?<!") and any(_repeats(part) for sequence in options for part in sequence):
            raise RegexError("looks behind for a repetition")
        return RegexNode("look" if opening in ("?=", "?!", "?<=", "?<!") else "group", options)

    def escape(self) -> RegexNode:
        text, start = self.pattern, self.place + 1
        letter = text[start : start + 1]
        if found := _BRACED.match(text, start) or _HEX.match(text, start):
            self.place = found.end()
            return RegexNode("character")
        if letter in _PLACES and letter:
            self.place = start + 1
            return RegexNode("place")
        if not letter or (letter.isalnum() and letter not in _CHARACTERS):
            raise RegexError(f"has the escape `\\{letter}`")
        self.place = start + 1
        return RegexNode("character")

    def after_class(self, place: int, depth: int) -> int:
        """Return the place after the character class that begins at `place`."""
        if depth > DEPTH:
            raise RegexError("has character classes nested too deeply")
        text = self.pattern
        place += 1 + (text[place + 1 : place + 2] == "^")
        if text[place : place + 1] == "]":
            raise RegexError("has an empty character class")
        while place < len(text):
            if text[place] == "]":
                return place + 1
            if text[place] == "[":
                place = self.after_class(place, depth + 1)
            else:
                place += 2 if text[place] == "\\" else 1
        raise RegexError("has an open character class")


def _repeats(part: RegexNode) -> bool:
    unbounded = part.kind == "repeat" and part.most is None
    return unbounded or any(_repeats(item) for sequence in part.options for item in sequence)
