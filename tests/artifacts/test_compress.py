"""What was compressed comes back whole, or is said to be damaged; the same content makes the same bytes."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from spanline.artifacts.compress import SUFFIXES, Damaged, compressed, decompressed
from spanline.errors import UsageError

TEXT = b"".join(b'{"node": %d, "name": "orders"}\n' % number for number in range(20_000))


def written(path: Path, codec: str) -> bytes:
    with compressed(path, codec) as write:  # type: ignore[arg-type]
        for start in range(0, len(TEXT), 1000):
            write(TEXT[start : start + 1000])
    return path.read_bytes()


@pytest.mark.parametrize("codec", SUFFIXES)
def test_it_comes_back_as_it_was(tmp_path: Path, codec: str) -> None:
    first, second = written(tmp_path / "a", codec), written(tmp_path / "b", codec)
    assert first == second
    assert decompressed(first) == TEXT
    assert decompressed(TEXT) == TEXT  # a client may have undone it


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_it_is_less_than_half(tmp_path: Path, codec: str) -> None:
    assert len(written(tmp_path / "a", codec)) < 0.3 * len(TEXT)


def test_others_can_read_it(tmp_path: Path) -> None:
    assert gzip.decompress(written(tmp_path / "a", "gzip")) == TEXT
    with zstandard.open(tmp_path / "b", "rb") if written(tmp_path / "b", "zstd") else None as file:
        assert file.read() == TEXT


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_what_is_cut_off_or_changed_is_damaged(tmp_path: Path, codec: str) -> None:
    data = written(tmp_path / "a", codec)
    for size in range(5, len(data), max(1, len(data) // 53)):
        with pytest.raises(Damaged):
            decompressed(data[:size])
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    with pytest.raises(Damaged):
        decompressed(bytes(changed))


def test_without_zstandard_nothing_is_written_in_its_place(tmp_path: Path) -> None:
    """fsspec writes plain text to `.zst` there."""
    code = f"""
import sys
sys.modules["zstandard"] = None
from pathlib import Path
from spanline.artifacts.compress import compressed
from spanline.errors import UsageError
try:
    with compressed(Path({str(tmp_path / "a.zst")!r}), "zstd") as write:
        write(b"plain")
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "zstd needs zstandard: pip install 'spanline[zstd]'"
    assert not (tmp_path / "a.zst").exists()
    assert issubclass(UsageError, Exception)
