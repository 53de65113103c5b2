"""Read a large JSON object from a file one value at a time: only one value's text is in memory, not the file's.

msgspec decodes a whole text. If a value ends before its text does, msgspec raises an error with the position. So each
value is located in a window of the file, and decoded separately. Any other error goes to the caller, who can decode the
whole file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any, Final, TypeVar, get_args, get_origin

import msgspec

_WINDOW: Final = 1 << 18
_PLACE: Final = re.compile(r"\(byte (\d+)\)")
"""Where msgspec says that something is wrong: the number of the byte, counted from 1."""
ENDS: Final = "trailing characters"
_CUT: Final = "truncated"
"""msgspec\'s words where more follows, and where something is missing. With other words, the whole text is decoded."""
_BLANK: Final = b" \t\r\n"

_string: Final = msgspec.json.Decoder(str)
_raw: Final = msgspec.json.Decoder(msgspec.Raw)

T = TypeVar("T", bound=msgspec.Struct)


class Unreadable(ValueError):  # noqa: N818 - it names what it is
    """The text is no such object, or it can't be read by pieces."""


def read(file: IO[bytes], kind: type[T], window: int = _WINDOW) -> Iterator[T | tuple[str, object]]:
    """The fields of a struct that is an object in the file, as they are read, and at last the struct.

    Objects and lists of structs are read an entry at a time; what the struct doesn't have is skipped. `window` is the
    number of bytes to read at once; it grows to hold the largest entry.
    Raises `Unreadable`, `msgspec.MsgspecError` and `OSError`.
    """
    text = _Text(file, window)
    types = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for name in text.members():
        if name not in types:
            text.skip()
            continue
        found[name] = _field(text, types[name])
        yield name, found[name]
    text.end()
    try:
        yield kind(**found)
    except TypeError as error:  # a field is missing
        raise Unreadable(str(error)) from error


def _field(text: _Text, kind: Any) -> object:  # noqa: ANN401 - a type, as msgspec takes it
    origin, arguments = get_origin(kind), get_args(kind)
    first = text.first()
    if origin is dict and first == b"{" and _is_struct(arguments[1]):
        decoder = msgspec.json.Decoder(arguments[1])
        return {name: text.value(decoder) for name in text.members()}
    if origin is list and first == b"[" and _is_struct(arguments[0]):
        decoder = msgspec.json.Decoder(arguments[0])
        return [text.value(decoder) for _ in text.elements()]
    return text.value(msgspec.json.Decoder(kind))


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


class _Text:
    """A file's text, of which a window is in memory; what is read of it is behind us."""

    def __init__(self, file: IO[bytes], window: int) -> None:
        self._size = window
        self._file = file
        self._window = b""
        self._at = 0

    def members(self) -> Iterator[str]:
        """The names in an object. Each value is to be read before the next."""
        self._take(b"{")
        if self.first() == b"}":
            self._take(b"}")
            return
        while True:
            name = self.value(_string)
            self._take(b":")
            yield name
            if self._take(b",}") == b"}":
                return

    def elements(self) -> Iterator[None]:
        """A turn for each element of a list, in which it is to be read."""
        self._take(b"[")
        if self.first() == b"]":
            self._take(b"]")
            return
        while True:
            yield
            if self._take(b",]") == b"]":
                return

    def value(self, decoder: msgspec.json.Decoder[Any]) -> Any:  # noqa: ANN401
        """The next value, decoded."""
        start, end = self._span()
        return decoder.decode(memoryview(self._window)[start:end])

    def skip(self) -> None:
        """Read the next value, whatever it is."""
        self._span()

    def first(self) -> bytes:
        """The next byte that is no blank."""
        while True:
            while self._window[self._at : self._at + 1] in _BLANKS:
                self._at += 1
            if self._at < len(self._window):
                return self._window[self._at : self._at + 1]
            self._more()

    def end(self) -> None:
        """Nothing but blanks may follow."""
        rest = self._window[self._at :] + self._file.read()
        if rest.strip(_BLANK):
            raise Unreadable("something follows the object")

    def _take(self, expected: bytes) -> bytes:
        found = self.first()
        if found not in expected:
            raise Unreadable(f"expected one of {expected.decode()}, got {found!r}")
        self._at += 1
        return found

    def _span(self) -> tuple[int, int]:
        """Where the next value stands in the window. It is behind us then."""
        self.first()
        while True:
            view = memoryview(self._window)[self._at :]
            try:
                _raw.decode(view)
            except msgspec.DecodeError as error:
                said = str(error)
                found = _PLACE.search(said)
                place = int(found[1]) if found is not None else 0
                if ENDS in said and place:
                    start, self._at = self._at, self._at + place - 1
                    return start, self._at
                if _CUT not in said and place < len(view):
                    raise
            # It reaches the end of the window, which it may go beyond.
            self._more()

    def _more(self) -> None:
        rest = self._window[self._at :]
        piece = self._file.read(max(self._size, len(rest)))
        if not piece:
            raise Unreadable("the text is cut off")
        self._window, self._at = rest + piece, 0


_BLANKS: Final = tuple(bytes([blank]) for blank in _BLANK)
