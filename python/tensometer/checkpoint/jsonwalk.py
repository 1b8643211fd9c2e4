"""A JSON reader for headers of unknown honesty: it walks the mapped bytes and builds only what is asked for.

`json.loads` turns three hostile bytes (`[],`) into more than sixty; here the memory used does not depend on the text,
and pages already read are released.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from tensometer.checkpoint.entry import MAX_NAME_BYTES, CheckpointError
from tensometer.checkpoint.mapped import MappedFile

# Possessive throughout: the matcher keeps no way back, so its memory does not grow with the text.
_S = rb"[ \t\r\n]*+"
_TEXT = rb'"(?>[^"\\\x00-\x1f]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+"'
_MARK = re.compile(_S + rb"(.?)", re.DOTALL)
_STRING = re.compile(_S + b"(" + _TEXT + b")")
_KEY = re.compile(_S + b"(" + _TEXT + b")" + _S + b":")
_NEXT = re.compile(_S + b"([,}])")
_LITERAL = re.compile(_S + rb"((?>-?[0-9][0-9.eE+-]*+|true|false|null))")
# A tensor's description: a type, a shape of at most 64 sizes of 20 digits, two offsets; generous for spaces.
_FLAT_OBJECT = re.compile(_S + rb"(\{[^{}]{0,4096}+\})")
_MAX_DEPTH = 32
_RELEASE_STEP = 4 << 20
_UTF8_STEP = 1 << 16


class JsonWalker:
    """A position in the bytes [start, stop) of a file that should be one JSON object."""

    def __init__(self, file: MappedFile, start: int, stop: int) -> None:
        self._file = file
        self._map = file.map
        self._position = start
        self._stop = stop
        self._released = start
        self._depth = 0
        self._check_utf8(start)

    def fail(self, expected: str) -> CheckpointError:
        """An error at the current position."""
        return CheckpointError(self._file.path, f"its JSON header is wrong at byte {self._position}: {expected}")

    def members(self) -> Iterator[str]:
        """The keys of the object here. The caller reads or skips each value before it asks for the next key."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.fail(f"nested more than {_MAX_DEPTH} levels deep")
        self._expect(b"{")
        if not self._take(b"}"):
            following = b","
            while following == b",":
                yield self._name(*self._match(_KEY, "a name and a colon were expected"))
                start, stop = self._match(_NEXT, "',' or '}' was expected")
                following = self._map[start:stop]
                self._release()
        self._depth -= 1

    def string(self) -> str:
        """The string here, if it is short enough to be a name."""
        return self._name(*self._match(_STRING, "a string was expected"))

    def _name(self, start: int, stop: int) -> str:
        if stop - start > MAX_NAME_BYTES + 2:
            raise self.fail(f"a name of {stop - start - 2} bytes; at most {MAX_NAME_BYTES} are read")
        raw = self._map[start:stop]
        if b"\\" not in raw:
            return raw[1:-1].decode()
        text = str(json.loads(raw))
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise self.fail("a name is not valid Unicode") from error
        return text

    def flat_object(self) -> dict[str, Any]:
        """The object here, which holds no other object and is at most 4096 bytes long."""
        start, stop = self._match(_FLAT_OBJECT, "an object without inner objects was expected")
        try:
            return dict(json.loads(self._map[start:stop], object_pairs_hook=_unique))
        except (ValueError, RecursionError) as error:
            self._position = start
            raise self.fail(str(error)) from error

    def skip_string(self) -> None:
        """Any string, whatever its length."""
        self._match(_STRING, "a string was expected")

    def skip(self) -> None:
        """Any value."""
        following = self._peek()
        if following == b"{":
            for _ in self.members():
                self.skip()
        elif following == b"[":
            self._skip_list()
        elif following == b'"':
            self.skip_string()
        else:
            self._match(_LITERAL, "a value was expected")

    def end(self) -> None:
        """Nothing but white space may follow."""
        if self._peek():
            raise self.fail("text follows the object")
        self._file.release(self._released, self._stop)

    def _skip_list(self) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self.fail(f"nested more than {_MAX_DEPTH} levels deep")
        self._expect(b"[")
        if not self._take(b"]"):
            self.skip()
            while not self._take(b"]"):
                self._expect(b",")
                self.skip()
                self._release()
        self._depth -= 1

    def _peek(self) -> bytes:
        found = _MARK.match(self._map, self._position, self._stop)
        if found is None:
            return b""
        self._position = found.start(1)
        return found[1]

    def _take(self, mark: bytes) -> bool:
        if self._peek() != mark:
            return False
        self._position += 1
        return True

    def _expect(self, mark: bytes) -> None:
        if not self._take(mark):
            raise self.fail(f"{mark.decode()!r} was expected")

    def _match(self, pattern: re.Pattern[bytes], expected: str) -> tuple[int, int]:
        found = pattern.match(self._map, self._position, self._stop)
        if found is None:
            raise self.fail(expected)
        self._position = found.end()
        return found.span(1)

    def _release(self) -> None:
        if self._position - self._released > _RELEASE_STEP:
            self._file.release(self._released, self._position)
            self._released = self._position

    def _check_utf8(self, start: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for first in range(start, self._stop, _UTF8_STEP):
            last = min(first + _UTF8_STEP, self._stop)
            try:
                decoder.decode(self._map[first:last], final=last == self._stop)
            except UnicodeDecodeError as error:
                self._position = first + error.start
                raise self.fail("not UTF-8") from error
            if (last - start) % _RELEASE_STEP == 0:
                self._file.release(start, last)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key appears twice")
    return members
