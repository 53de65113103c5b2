"""Which message may go next: by key, by dataset, around barriers; and that there is always one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from spanline.sinks.base import Message
from spanline.sinks.ordering import Batch, Ordering, Pending


class Sender:
    """Puts messages into an ordering, and takes them out again, by their payloads."""

    def __init__(self) -> None:
        self.ordering = Ordering()
        self._under_way: dict[str, Pending] = {}
        self._number = 0

    def put(self, *messages: Message) -> None:
        for message in messages:
            self._number += 1
            self.ordering.add(Pending(self._number, (self._number, 0), message))

    def take(self) -> list[str]:
        """All that may go by now, each alone."""
        taken: list[str] = []
        while batch := self.ordering.take(1):
            taken += self.keep(batch)
        return taken

    def keep(self, batch: Batch) -> list[str]:
        names = [str(pending.message.payload) for pending in batch]
        self._under_way.update(zip(names, batch, strict=True))
        return names

    def settle(self, *names: str) -> list[str]:
        """The backend has these; what may go now?"""
        self.ordering.settle([self._under_way.pop(name) for name in names])
        return self.take()


def start(key: str, reads: str = "", writes: str = "") -> Message:
    datasets = {"reads": frozenset(reads.split()), "writes": frozenset(writes.split())}
    return Message(f"START {key}", key, unfinished=True, **datasets)


def end(key: str, reads: str = "", writes: str = "") -> Message:
    return Message(f"END {key}", key, reads=frozenset(reads.split()), writes=frozenset(writes.split()))


def barrier(name: str) -> Message:
    return Message(name, name, barrier=True)


def test_what_reads_a_dataset_waits_until_its_writer_is_finished_and_nothing_else_does() -> None:
    sender = Sender()
    sender.put(
        start("parent", writes="p"), start("child", "p", "c"), start("test", "p"), start("other", writes="o"),
        end("parent", writes="p"), end("child", "p", "c"),
    )  # fmt: skip
    assert sender.take() == ["START parent", "START other"]
    assert sender.settle("START parent") == ["END parent"]
    assert sender.settle("END parent") == ["START child", "START test"]
    assert sender.settle("START child") == ["END child"]


def test_the_end_of_the_writer_may_be_made_later_than_what_waits_for_it() -> None:
    """A node's end waits for its columns, while dbt goes on with the nodes below it."""
    sender = Sender()
    sender.put(start("parent", writes="p"))
    assert sender.take() == ["START parent"]
    assert sender.settle("START parent") == []
    sender.put(start("child", "p"), end("child", "p"))
    assert sender.take() == []
    sender.put(end("parent", writes="p"))
    assert sender.take() == ["END parent"]
    assert sender.settle("END parent") == ["START child"]


def test_who_writes_a_dataset_waits_for_who_wrote_it_before() -> None:
    sender = Sender()
    sender.put(start("first", writes="d"), start("second", writes="d"), end("first", writes="d"))
    assert sender.take() == ["START first"]
    assert sender.settle("START first") == ["END first"]
    assert sender.settle("END first") == ["START second"]


def test_a_writer_that_nothing_is_known_of_is_not_waited_for() -> None:
    sender = Sender()
    sender.put(start("child", "p"))
    assert sender.take() == ["START child"]


def test_who_reads_what_it_writes_does_not_wait_for_itself() -> None:
    sender = Sender()
    sender.put(start("incremental", "d", "d"), end("incremental", "d", "d"))
    assert sender.take() == ["START incremental"]
    assert sender.settle("START incremental") == ["END incremental"]


def test_two_that_read_what_the_other_writes_do_not_wait_for_ever() -> None:
    sender = Sender()
    sender.put(start("a", "y", "x"), start("b", "x", "y"), end("a", "y", "x"), end("b", "x", "y"))
    assert sender.take() == ["START a"]
    assert sender.settle("START a") == ["END a"]
    assert sender.settle("END a") == ["START b"]


def test_a_barrier_waits_for_all_before_it_but_not_for_ends_that_are_not_there() -> None:
    sender = Sender()
    sender.put(start("parent", writes="p"))
    sender.take()
    sender.settle("START parent")
    sender.put(start("child", "p"), barrier("end of all"), start("next", "p"))
    assert sender.take() == ["START child"]
    assert sender.settle("START child") == ["end of all"]
    assert sender.settle("end of all") == ["START next"]


def test_without_more_to_come_nothing_waits_for_it() -> None:
    sender = Sender()
    sender.put(start("parent", writes="p"), start("child", "p"), start("grandchild", "p"))
    assert sender.take() == ["START parent"]
    sender.ordering.expect_no_more()
    assert sender.settle("START parent") == ["START child", "START grandchild"]


def test_messages_of_one_key_go_together_and_not_with_what_waits_for_them() -> None:
    sender = Sender()
    sender.put(start("parent", writes="p"), end("parent", writes="p"), start("child", "p"), start("other"))
    assert sender.keep(sender.ordering.take(10)) == ["START parent", "END parent", "START other"]
    assert sender.settle("START parent", "END parent") == ["START child"]


def test_what_has_failed_goes_alone() -> None:
    sender = Sender()
    sender.put(*(Message(name) for name in "abc"))
    batch = sender.ordering.take(10)
    batch[1].failures = 1
    sender.ordering.put_back(batch)
    assert sender.keep(sender.ordering.take(10)) == ["a"]
    sender.ordering.settle(batch[:1])
    assert sender.keep(sender.ordering.take(10)) == ["b"]


keys, datasets = st.sampled_from("abcdef"), st.frozensets(st.sampled_from("uvwxyz"), max_size=3)
messages = st.builds(
    Message,
    payload=st.none(),
    key=keys,
    barrier=st.sampled_from([False] * 9 + [True]),
    reads=datasets,
    writes=datasets,
    unfinished=st.booleans(),
)


@given(st.lists(messages, max_size=60), st.integers(1, 4), st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_depends_on_what_all_goes_once_and_in_order(
    made: list[Message], most: int, data: st.DataObject
) -> None:
    ordering, waiting = Ordering(), [Pending(number, (number, 0), message) for number, message in enumerate(made)]
    under_way: list[Batch] = []
    settled: set[int] = set()
    gone: list[int] = []
    began: dict[str, int] = {}  # with which message each key began, and goes on as long as it isn't finished
    newest: dict[str, int] = {}

    while len(settled) < len(made):
        moves = ["put"] * bool(waiting) + ["settle"] * bool(under_way) + ["take"] * (ordering.head is not None)
        if not moves:
            ordering.finish_idle()
            assert ordering.head is not None, "there is always one that may go"
            continue
        move = data.draw(st.sampled_from(moves))
        if move == "put":
            pending = waiting.pop(0)
            key = pending.message.key
            if key not in newest or (newest[key] in settled and not made[newest[key]].unfinished):
                began[key] = pending.number
            newest[key] = pending.number
            ordering.add(pending)
        elif move == "settle":
            batch = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            ordering.settle(batch)
            settled |= {pending.number for pending in batch}
        else:
            batch = ordering.take(most)
            if data.draw(st.booleans()):
                ordering.put_back(batch)
                assert ordering.take(most) == batch
            for place, pending in enumerate(batch):
                ours = settled | {before.number for before in batch[:place]}
                _assert_may_go(pending, made, settled, ours, began[pending.message.key])
            gone += [pending.number for pending in batch]
            under_way.append(batch)
    assert sorted(gone) == list(range(len(made)))
    assert len(ordering) == 0


def _assert_may_go(pending: Pending, made: list[Message], settled: set[int], ours: set[int], began: int) -> None:
    message, number = pending.message, pending.number
    before = {other for other in range(number) if other not in settled}
    if message.barrier:
        assert not before
    assert not [other for other in before if made[other].barrier]
    assert not [other for other in range(number) if made[other].key == message.key and other not in ours]
    wanted = message.reads | message.writes
    assert not [other for other in before if other < began and made[other].writes & wanted]
