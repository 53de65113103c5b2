"""Object stores that speak the clouds' own protocols: moto for S3, fake-gcs-server for GCS, Azurite for Azure.

Each gives the URL of a bucket that is there, and the environment by which clients find it. The last two are installed
into the cache of `tests.support.gotools`; their tests have markers, and are skipped where they can't be had.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gotools import CACHE, cached, go
from tests.support.waiting import eventually

FAKE_GCS = ("github.com/fsouza/fake-gcs-server", "v1.56.1")
AZURITE = "3.37.0"
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's well-known account: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite"""


@dataclass(frozen=True)
class Cloud:
    """A running store: a bucket's URL, and what a client needs to reach it."""

    url: str
    environment: Mapping[str, str]
    endpoint: str


@contextmanager
def s3() -> Iterator[Cloud]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        environment = {
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing-to-hide",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id="nobody", aws_secret_access_key="nothing-to-hide",
        )  # fmt: skip
        client.create_bucket(Bucket="artifacts")
        yield Cloud("s3://artifacts", environment, endpoint)
    finally:
        server.stop()


@contextmanager
def gcs() -> Iterator[Cloud]:
    port = _free_port()
    endpoint = f"http://127.0.0.1:{port}"
    module, version = FAKE_GCS
    program = cached(f"fake-gcs-server-{version}", "fake-gcs-server", lambda place: _go_install(place, module, version))
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with _running([*command, "-public-host", f"127.0.0.1:{port}"], f"{endpoint}/storage/v1/b?project=p"):
        request = urllib.request.Request(
            f"{endpoint}/storage/v1/b?project=p", b'{"name":"artifacts"}', {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).close()
        yield Cloud("gs://artifacts", {"STORAGE_EMULATOR_HOST": endpoint}, endpoint)


@contextmanager
def azure() -> Iterator[Cloud]:
    port = _free_port()
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_ACCOUNT_KEY};BlobEndpoint={endpoint};"
    )
    command = [_azurite(), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--blobPort", str(port)]
    with _running(command, endpoint):
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container("artifacts").close()
        yield Cloud("abfs://artifacts", {"AZURE_STORAGE_CONNECTION_STRING": connection}, endpoint)


CLOUDS = {"s3": s3, "gcs": gcs, "azure": azure}


def _go_install(place: Path, module: str, version: str) -> None:
    go(place, "install", f"{module}@{version}", GOBIN=str(place), GOFLAGS="-mod=mod")


def _azurite() -> str:
    folder = CACHE / f"azurite-{AZURITE}"
    program = folder / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("Azurite is installed with npm, and there is no npm command")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            done = subprocess.run(
                [npm, "install", "--silent", "--ignore-scripts", "--prefix", place, f"azurite@{AZURITE}"],
                capture_output=True, text=True, check=False, timeout=600,
            )  # fmt: skip
            if done.returncode != 0:
                pytest.skip(f"npm can't install Azurite: {done.stderr[-300:]}")
            shutil.copytree(place, folder, symlinks=True, dirs_exist_ok=True)
    return str(program)


@contextmanager
def _running(command: list[object], url: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as place, open(os.path.join(place, "said.log"), "w+b") as said:
        server = subprocess.Popen(list(map(str, command)), cwd=place, stdout=said, stderr=said)
        try:
            eventually(lambda: _answers(url) or server.poll() is not None, f"an answer of {command[0]}")
            said.seek(0)
            assert server.poll() is None, said.read().decode(errors="replace")
            yield
        finally:
            server.terminate()
            server.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url).close()
    except urllib.error.HTTPError:
        return True  # it wants more to be said, but it is there
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
