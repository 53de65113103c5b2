"""The journal: whatever happens to its writers, every whole record in it is read back."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanline import events
from spanline.journal.appender import Appender
from spanline.journal.reader import Reader, follow
from spanline.runner.shared.writer import LONGEST_RECORD, Writer
from tests.support.examples import examples

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
records = st.builds(
    events.Log,
    level=st.sampled_from(["info", "warn"]),
    name=texts,
    message=texts,
    unique_id=st.none() | texts,
    seq=st.integers(1, 1000),
)


def written(event: events.Event) -> bytes:
    """A record as the design says that it stands in a journal: a newline on either side."""
    return b"\n" + msgspec.json.encode(event) + b"\n"


def cut(event: events.Event, part: float) -> bytes:
    """What a kill may leave of a record: a newline and some, but not all, of the JSON behind it."""
    whole = written(event)[:-1]
    return whole[: 2 + int(part * (len(whole) - 3))]


no_record = st.binary(max_size=30).map(lambda b: b"\n" + b.replace(b"\n", b"") + b"\xff")
torn = st.builds(cut, records, st.floats(0, 0.999)) | no_record
pieces = st.lists(records | torn, max_size=12)


def contents(parts: list[events.Event | bytes]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else written(part) for part in parts)


def place_for(data: bytes) -> Path:
    with tempfile.NamedTemporaryFile(delete=False, prefix="journal-") as file:
        file.write(data)
    return Path(file.name)


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@given(parts=pieces)
def test_torn_pieces_anywhere_spoil_no_whole_record_and_are_counted(parts: list[events.Event | bytes]) -> None:
    whole = [part for part in parts if not isinstance(part, bytes)]
    reader = Reader(place_for(contents([*parts, b"\n"])))
    assert [record.event for record in reader.read()] == whole
    assert reader.torn == len(parts) - len(whole)


@given(before=st.lists(records, max_size=3), last=records, part=st.floats(0, 0.999))
def test_an_unfinished_tail_is_not_torn_and_is_read_once_it_is_whole(
    before: list[events.Log], last: events.Log, part: float
) -> None:
    tail = cut(last, part)
    path = place_for(contents([*before, tail]))
    reader = Reader(path)
    assert [record.event for record in reader.read()] == before
    assert reader.torn == 0
    data = path.read_bytes()
    assert reader.offset == data.rfind(b"\n") + 1
    with path.open("ab") as file:
        file.write(written(last)[len(tail) :])
    assert [record.event for record in reader.read()] == [last]
    assert reader.torn == 0


@given(parts=pieces, cuts=st.lists(st.integers(0, 1500), max_size=8))
def test_reading_in_arbitrary_cuts_is_reading_at_once(parts: list[events.Event | bytes], cuts: list[int]) -> None:
    path = place_for(contents(parts))
    data = path.read_bytes()
    at_once = Reader(path)
    expected = list(at_once.read())
    in_cuts = Reader(path)
    found = []
    for limit in [*sorted(cuts), len(data)]:
        found += in_cuts.read(limit=limit)
        assert in_cuts.offset <= data.rfind(b"\n") + 1
    assert found == expected
    assert (in_cuts.offset, in_cuts.torn) == (at_once.offset, at_once.torn)


@given(parts=pieces, stop=st.integers(0, 12))
def test_a_new_reader_goes_on_from_the_cursor_of_another(parts: list[events.Event | bytes], stop: int) -> None:
    path = place_for(contents(parts))
    expected = list(Reader(path).read())
    first = Reader(path)
    taken = [record for record, _ in zip(first.read(), range(stop), strict=False)]
    cursor = taken[-1].offset if taken else 0
    assert taken + list(Reader(path, cursor).read()) == expected


@given(parts=pieces)
def test_a_records_line_is_what_stands_before_its_offset(parts: list[events.Event | bytes]) -> None:
    path = place_for(contents(parts))
    data = path.read_bytes()
    for record in Reader(path).read():
        assert data[: record.offset].endswith(b"\n" + record.line + b"\n")


@given(name=st.text("abcdefgh_", min_size=1).map("future_".__add__), extra=st.dictionaries(texts, st.integers()))
def test_an_unknown_type_of_event_is_kept_with_all_its_fields(name: str, extra: dict[str, int]) -> None:
    raw = {**extra, "type": name, "v": 7, "seq": 3, "time": 5, "writer": "w"}
    reader = Reader(place_for(b"\n" + json.dumps(raw).encode() + b"\n"))
    (record,) = reader.read()
    assert isinstance(record.event, events.Unknown)
    assert record.event.name == name
    assert record.event.raw == raw
    assert (record.event.v, record.event.seq, record.event.time, record.event.writer) == (7, 3, 5, "w")
    assert reader.torn == 0


def test_a_newer_version_may_add_fields() -> None:
    line = b'{"type":"node_skipped","v":9,"unique_id":"model.a.b","cause":"x","weather":{"sun":[1]},"seq":2}'
    event = events.decode(line)
    assert event == events.NodeSkipped(v=9, unique_id="model.a.b", cause="x", seq=2)


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"node_skipped","v":9,"unique_id":["now","a","list"],"seq":2}',
        '{"type":"node_skipped","v":9,"seq":2}',
        '{"type":"node_finished","unique_id":"m","status":{"name":"success"},"seq":2}',
        '{"type":"log","level":"info","name":"n","message":"m","seq":2,"time":"2030-01-01T00:00:00Z"}',
        '{"type":"log","level":"info","name":"n","message":"m","seq":2,"writer":{"host":"a"}}',
        '{"type":"log","level":"info","name":"n","message":"m","seq":2,"session":true}',
    ],
)
def test_a_newer_version_may_change_what_a_field_holds(line: str) -> None:
    reader = Reader(place_for(f"\n{line}\n".encode()))
    (record,) = reader.read()
    assert isinstance(record.event, events.Unknown)
    assert record.event.seq == 2
    assert reader.torn == 0


@pytest.mark.parametrize(
    "line", ["[1]", '"type"', "3", "null", "{}", '{"type":3}', '{"type":null}', "{", '{"type":"lo']
)
def test_what_is_no_object_with_a_type_is_torn(line: str) -> None:
    reader = Reader(place_for(f"\n{line}\n".encode()))
    assert list(reader.read()) == []
    assert reader.torn == 1


@pytest.mark.parametrize("start", ['{"type":"heartbeat","x":', '{"type":"future","x":', "["])
def test_what_is_nested_without_an_end_is_torn(start: str) -> None:
    nested = f"{start}{'[' * 100_000}".encode()
    reader = Reader(place_for(b"\n" + nested + b"\n" + written(events.Heartbeat(seq=2))))
    assert [record.event.seq for record in reader.read()] == [2]
    assert reader.torn == 1


def test_a_journal_that_is_not_there_yet_has_no_records(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "none")
    assert list(reader.read()) == []
    assert not reader.has_more()


def test_a_follower_sees_what_is_appended_and_all_of_it_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    appender = Appender(path, "w")
    over = threading.Event()
    seen: list[events.Event] = []
    first = threading.Event()

    def read() -> None:
        for record in follow(Reader(path), over.is_set):
            seen.append(record.event)
            first.set()

    reader = threading.Thread(target=read)
    reader.start()
    appender.append(events.Heartbeat())
    assert first.wait(10)
    for _ in range(100):
        appender.append(events.Heartbeat())
    over.set()
    reader.join(10)
    assert [event.seq for event in seen] == list(range(1, 102))


def _append_much(path: str, name: str, start: Callable[[], object]) -> None:
    writer = Writer(path, name)
    start()

    def append(thread: int) -> None:
        for number in range(200):
            writer.append("log", {"level": "info", "name": str(thread), "message": str(number) * (number % 90)})

    threads = [threading.Thread(target=append, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_processes_and_threads_that_append_at_once_do_not_mix_their_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_append_much, args=(str(path), f"w{n}", barrier.wait)) for n in range(2)]
    for process in writers:
        process.start()
    for process in writers:
        process.join(60)
        assert process.exitcode == 0
    reader = Reader(path)
    found = [record.event for record in reader.read()]
    assert reader.torn == 0
    for name in ("w0", "w1"):
        ours = [event for event in found if event.writer == name]
        assert [event.seq for event in ours] == list(range(1, 801)), "in the order of their numbers, none lost"
        for thread in range(4):
            said = [event.message for event in ours if isinstance(event, events.Log) and event.name == str(thread)]
            assert said == [str(number) * (number % 90) for number in range(200)]


@given(fields=st.dictionaries(texts, texts | st.integers() | st.none() | st.lists(texts)), at=st.integers(1, 2**62))
@examples(50)
def test_what_is_appended_is_read_back_whatever_it_holds(fields: dict[str, object], at: int) -> None:
    path = place_for(b"")
    Writer(str(path), 'w"\n').append(
        "of_the_future", {f"x{name}": value for name, value in fields.items()}, (at, at // 2)
    )
    (record,) = Reader(path).read()
    assert isinstance(record.event, events.Unknown)
    own = {name: value for name, value in record.event.raw.items() if name.startswith("x")}
    assert own == {f"x{name}": value for name, value in fields.items()}
    assert (record.event.time, record.event.mono, record.event.writer) == (at, at // 2, 'w"\n')


def test_a_text_that_is_no_valid_unicode_is_journalled_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Writer(str(path), "w").append("log", {"level": "info", "name": "n", "message": "caf\udce9"})
    (record,) = Reader(path).read()
    assert isinstance(record.event, events.Log)
    assert record.event.message.startswith("caf")


# --- lines that are longer than a record


@given(parts=pieces, cuts=st.lists(st.integers(0, 1500), max_size=8), longest=st.integers(60, 300))
def test_a_line_that_is_too_long_is_torn_and_spoils_no_other(
    parts: list[events.Event | bytes], cuts: list[int], longest: int
) -> None:
    path = place_for(contents([*parts, b"\n"]))
    whole = [part for part in parts if not isinstance(part, bytes) and len(written(part)) - 2 <= longest]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spanline.journal.reader.LONGEST_RECORD", longest)
        reader = Reader(path, chunk=50)  # as it is: shorter than a record may be
        found = []
        for limit in [*sorted(cuts), path.stat().st_size]:
            found += reader.read(limit=limit)
    assert [record.event for record in found] == whole
    assert reader.torn == len(parts) - len(whole)
    assert reader.offset == path.stat().st_size


def a_long_line(path: Path, size: int, end: bytes) -> None:
    """A line of so many NULs, which take no room on the disk, between two records."""
    path.write_bytes(written(events.Heartbeat(seq=1)))
    os.truncate(path, path.stat().st_size + size)
    with path.open("ab") as file:
        file.write(end)


def test_a_long_line_is_read_once_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    a_long_line(path, 10 * LONGEST_RECORD, written(events.Heartbeat(seq=2)))
    reader = Reader(path)
    tracemalloc.start()
    try:
        before = bytes_read()
        assert [record.event.seq for record in reader.read()] == [1, 2]
        assert bytes_read() - before < 11 * LONGEST_RECORD
        assert tracemalloc.get_traced_memory()[1] < 3 * LONGEST_RECORD
    finally:
        tracemalloc.stop()
    assert reader.torn == 1
    assert reader.offset == path.stat().st_size


def test_what_was_read_of_a_line_without_an_end_is_not_read_again(tmp_path: Path) -> None:
    """Else who follows a journal reads it all whenever a byte is added."""
    path = tmp_path / "journal"
    a_long_line(path, 2 * LONGEST_RECORD, b"")
    reader = Reader(path)
    assert [record.event.seq for record in reader.read()] == [1]
    assert (reader.torn, reader.offset) == (0, len(written(events.Heartbeat(seq=1))))
    before = bytes_read()
    with path.open("ab") as file:
        file.write(written(events.Heartbeat(seq=2)))
    assert [record.event.seq for record in reader.read()] == [2]
    assert bytes_read() - before < LONGEST_RECORD
    assert (reader.torn, reader.offset) == (1, path.stat().st_size)


def bytes_read() -> int:
    """What this process has read so far, from wherever."""
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])


@pytest.mark.parametrize("character", ["x", "\u20ac", "\u0001"])  # in JSON one, three and six bytes
def test_a_record_that_would_be_too_long_is_written_with_its_texts_cut(tmp_path: Path, character: str) -> None:
    path = tmp_path / "journal"
    writer = Writer(str(path), "w")
    sql = character * (LONGEST_RECORD // 2 + LONGEST_RECORD // 3)
    assert writer.append("query_started", {"query": 7, "sql": sql + sql})
    writer.append("heartbeat", {})
    writer.close()
    reader = Reader(path)
    query, heartbeat = (record.event for record in reader.read())
    assert isinstance(query, events.QueryStarted)
    assert query.query == 7
    assert query.sql.endswith("…")
    assert set(query.sql[:-1]) == {character}
    assert len(query.sql) >= 1 << 18
    assert (reader.torn, heartbeat.seq) == (0, 2)


def test_of_a_record_that_cannot_be_cut_it_is_said_that_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    writer = Writer(str(path), "w")
    assert writer.append("selection", {"unique_ids": ["m" * 30] * (LONGEST_RECORD // 30)})
    writer.close()
    (record,) = Reader(path).read()
    assert isinstance(record.event, events.Log)
    assert re.fullmatch(r"a record of type selection is left out: it would have \d{8} bytes", record.event.message)


def test_the_ids_of_a_hundred_thousand_nodes_are_a_record(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    unique_ids = [f"test.a_package.not_null_a_model_of_some_length_{number}.0123456789" for number in range(100_000)]
    writer = Writer(str(path), "w")
    writer.append("selection", {"unique_ids": unique_ids})
    writer.close()
    (record,) = Reader(path).read()
    assert isinstance(record.event, events.Selection)
    assert record.event.unique_ids == unique_ids


# --- disks that are full


_APPEND_UNTIL_STOPPED = """
import signal, sys, threading
from spanline.runner.shared.writer import LONGEST_RECORD, Writer
said = []
writer = Writer(sys.argv[1], "w", on_stop=said.append)
for number in range(3000):
    writer.append("log", {"level": "info", "name": "n", "message": "x" * 100})
writer.sync()
print(len(said))
print(said[0])
writer.close()
"""


def _stopped(path: str, prepare: Callable[[], None] | None = None) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _APPEND_UNTIL_STOPPED, path],
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    times, warning = done.stdout.splitlines()
    assert times == "1"
    return warning.split(": ")


def _fill_the_disk_of(path: Path) -> None:
    """Have what this process has open there be a device that is always full."""
    full = os.open("/dev/full", os.O_WRONLY)
    for fd in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{fd}") == str(path):
            os.dup2(full, int(fd))
    os.close(full)


def test_a_full_disk_stops_the_writer_with_one_warning(tmp_path: Path) -> None:
    said: list[str] = []
    writer = Writer(str(tmp_path / "journal"), "w", on_stop=said.append)
    _fill_the_disk_of(tmp_path / "journal")
    for _ in range(3):
        writer.append("heartbeat", {})
    writer.close()
    (warning,) = said
    assert "No space left on device" in warning


def test_a_file_that_may_not_grow_stops_the_writer_and_what_it_holds_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    _stopped(str(path), limit)
    assert path.stat().st_size == 100_000
    reader = Reader(path)
    numbers = [record.event.seq for record in reader.read()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 300
    assert reader.torn == 0


def test_a_disk_that_fills_up_stops_one_writer_and_its_torn_line_spoils_no_later_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user cannot mount a small file system")
    try:
        ballast, path = disk / "ballast", disk / "journal"
        ballast.write_bytes(b"x" * 40_000)
        _stopped(str(path))
        whole = len(list(Reader(path).read()))
        ballast.unlink()  # now there is room again, for another writer
        later = Writer(str(path), "later")
        later.append("heartbeat", {})
        later.close()
        reader = Reader(path)
        found = [record.event for record in reader.read()]
        assert len(found) == whole + 1
        assert found[-1].writer == "later"
        assert reader.torn <= 1
        del reader  # which keeps the journal open
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_a_listener_the_warning_goes_to_standard_error_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "journal"
    writer = Writer(str(path), "w")
    _fill_the_disk_of(path)
    for _ in range(3):
        writer.append("heartbeat", {})
    said = capfd.readouterr().err
    assert said.startswith(f"spanline: the journal {path} stops here")
    assert said.count("\n") == 1
    writer.close()


def test_a_closed_writer_drops_what_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    writer = Writer(str(path), "w")
    writer.append("heartbeat", {})
    writer.close()
    with open(tmp_path / "another", "wb") as other:  # takes the descriptor's number, most likely
        writer.append("heartbeat", {})
        assert os.fstat(other.fileno()).st_size == 0
    assert len(list(Reader(path).read())) == 1
