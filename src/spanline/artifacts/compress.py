"""Compression by a named codec. Compressed content is recognized by its first bytes.

fsspec's `infer` does not work: it writes plain text to a file named `.zst` if `zstandard` is missing. The name of an
object does not help either: gcsfs and adlfs decompress gzip on their own, so the content of `x.json.gz` may be plain.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

from spanline.errors import UsageError
from spanline.home.storage import Codec

SUFFIXES: Final[Mapping[Codec, str]] = {"gzip": ".gz", "zstd": ".zst", "none": ""}
ENCODINGS: Final[Mapping[Codec, str | None]] = {"gzip": "gzip", "zstd": "zstd", "none": None}
"""Content codings: https://www.iana.org/assignments/http-parameters."""
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 9
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class Damaged(ValueError):  # noqa: N818 - it names what it is
    """Compressed content is cut off, or differs from what was written."""


@contextlib.contextmanager
def compressed(path: Path, codec: Codec) -> Iterator[Callable[[bytes], object]]:
    """What writes to a new file, the same bytes for the same content. Raises `UsageError` without the codec."""
    library = _zstandard() if codec == "zstd" else None  # before there is a file
    with path.open("wb") as file, contextlib.ExitStack() as stack:
        if library is not None:
            parameters = library.ZstdCompressionParameters.from_level(_ZSTD_LEVEL, write_checksum=True)
            compressor = library.ZstdCompressor(compression_params=parameters)
            yield stack.enter_context(compressor.stream_writer(file)).write
        elif codec == "gzip":
            yield stack.enter_context(gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)).write
        else:
            yield file.write


def is_compressed(beginning: bytes) -> bool:
    """Whether what begins so was written by a codec."""
    return beginning.startswith((_GZIP, _ZSTD))


def decompressed(data: bytes) -> bytes:
    """The content itself, whichever codec it was written with, or none. Raises `Damaged`, and `UsageError`."""
    if data.startswith(_ZSTD):
        return b"".join(_frames(data))
    try:
        return gzip.decompress(data) if data.startswith(_GZIP) else data
    except (OSError, EOFError, zlib.error) as error:
        raise Damaged(f"it cannot be decompressed: {error}") from error


def _frames(data: bytes) -> Iterator[bytes]:
    library = _zstandard()
    while data:
        frame = library.ZstdDecompressor().decompressobj()
        try:
            yield frame.decompress(data)
        except library.ZstdError as error:
            raise Damaged(f"it cannot be decompressed: {error}") from error
        if not frame.eof:
            raise Damaged("it cannot be decompressed: it is cut off")
        data = frame.unused_data


def _zstandard() -> ModuleType:
    try:
        import zstandard  # noqa: PLC0415 - only who asks for it needs it
    except ImportError as error:
        raise UsageError("zstd needs zstandard: pip install 'spanline[zstd]'") from error
    return zstandard
