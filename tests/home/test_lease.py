"""The lease: one holder, gone with the last process that has it, decided by the lock and not by a heartbeat."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from spanline.errors import RunBusy
from spanline.home import lease

HOLD = """
import os, sys
from pathlib import Path
from spanline.home import lease
held = lease.acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def hold(path: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_lease_is_held_until_it_is_released(path: Path) -> None:
    assert not lease.is_held(path)
    held = lease.acquire(path)
    assert lease.is_held(path)
    held.release()
    assert not lease.is_held(path)


def test_a_second_holder_is_refused_and_told_who_holds_it(path: Path) -> None:
    with hold(path) as holder:
        with pytest.raises(RunBusy, match=f"pid {holder.pid} on {platform.node()}"):
            lease.acquire(path)
        holder.stdin.close()
    lease.acquire(path).release()


def test_a_killed_holder_holds_no_longer(path: Path) -> None:
    with hold(path) as holder:
        holder.kill()
    assert not lease.is_held(path)
    lease.acquire(path).release()


def test_who_inherits_the_descriptor_holds_the_lease_too(path: Path) -> None:
    held = lease.acquire(path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[held.fd]) as heir:
        held.release()
        assert lease.is_held(path)
        heir.stdin.close()
    assert not lease.is_held(path)


def test_a_fork_that_lives_on_does_not_hold_the_lease(path: Path) -> None:
    held = lease.acquire(path)
    ours, childs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        childs.send(b".")  # it runs
        childs.recv(1)  # until the parent is done with it, or gone
        os._exit(0)
    childs.close()
    ours.recv(1)
    held.release()
    free = not lease.is_held(path)
    ours.close()
    os.waitpid(child, 0)
    assert free


def test_looking_at_a_lease_neither_takes_nor_changes_it(path: Path) -> None:
    held = lease.acquire(path)
    before = path.read_bytes()
    assert all(lease.is_held(path) for _ in range(100))
    assert path.read_bytes() == before
    held.release()
    lease.acquire(path).release()


def test_a_lease_says_who_holds_it_and_its_heartbeat_is_of_now(path: Path) -> None:
    before = time.time()
    held = lease.acquire(path)
    holder = lease.read_holder(path)
    assert holder is not None
    assert (holder.pid, holder.host) == (os.getpid(), platform.node())
    assert before <= holder.heartbeat <= time.time()
    held.beat()
    later = lease.read_holder(path)
    assert later is not None
    assert later.heartbeat > holder.heartbeat
    assert msgspec.structs.replace(later, heartbeat=0.0) == msgspec.structs.replace(holder, heartbeat=0.0)
    held.release()


def left_by(path: Path, host: str, age: float) -> None:
    path.write_bytes(msgspec.json.encode(lease.Holder(host, "some-boot", 1, "1", time.time() - age)))


def test_on_one_host_a_fresh_heartbeat_without_a_lock_is_no_holder(path: Path) -> None:
    left_by(path, platform.node(), age=0)
    lease.acquire(path).release()


def test_on_one_host_a_held_lock_is_a_holder_however_old_its_heartbeat(path: Path) -> None:
    with hold(path) as holder:
        left_by(path, platform.node(), age=1e6)
        with pytest.raises(RunBusy):
            lease.acquire(path)
        holder.stdin.close()


def test_between_hosts_the_heartbeat_decides(path: Path) -> None:
    left_by(path, "elsewhere", age=1)
    with pytest.raises(RunBusy, match=r"another host .*elsewhere"):
        lease.acquire(path)
    assert not lease.is_held(path), "a refused acquire leaves no lock behind"
    left_by(path, "elsewhere", age=3600)
    lease.acquire(path).release()


@pytest.mark.parametrize("content", [b"", b"{", b'{"host":1}', b"\xff"])
def test_a_lease_whose_content_is_damaged_can_be_taken(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    held = lease.acquire(path)
    assert lease.read_holder(path) is not None
    held.release()


def test_a_lease_is_for_its_owners_eyes(path: Path) -> None:
    lease.acquire(path).release()
    assert path.stat().st_mode & 0o777 == 0o600
