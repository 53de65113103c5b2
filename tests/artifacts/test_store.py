"""A store writes whole objects with the properties that were asked for, on every cloud or with a clear refusal."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from spanline.artifacts.store import AlreadyThere, NotThere, Properties, Store, StoreError
from spanline.errors import UsageError
from tests.support.clouds import Cloud

TEXT = b'{"metadata": {}}' * 1000
KEY = "dbt-artifacts/günther's café/運行:2026+01 a=b/manifest.json.gz"


def test_what_is_written_is_read_under_any_key(reachable: Cloud) -> None:
    store = Store(f"{reachable.url}/prefix/")
    data = gzip.compress(TEXT)
    store.put(KEY, data, Properties(content_encoding="gzip"))
    found = store.get(KEY)
    assert found in (data, TEXT)  # gcsfs and adlfs undo gzip
    store.put(KEY, TEXT, Properties())
    assert store.get(KEY) == TEXT
    (listed,) = store.find("dbt-artifacts/")
    assert listed.key == KEY
    assert abs(listed.modified - time.time()) < 120
    assert store.find("elsewhere/") == []
    store.delete(KEY)
    store.delete(KEY)
    with pytest.raises(NotThere, match=KEY.replace("+", r"\+")):
        store.get(KEY)


def test_only_one_creates(reachable: Cloud) -> None:
    store = Store(f"{reachable.url}/prefix")
    store.create("locks/one", b"first", Properties())
    with pytest.raises(AlreadyThere):
        store.create("locks/one", b"second", Properties())
    assert store.get("locks/one") == b"first"
    store.delete("locks/one")


@pytest.mark.parametrize("cloud", [pytest.param("gcs", marks=pytest.mark.gcs), "s3"], indirect=True)
def test_a_browser_opens_what_is_compressed(reachable: Cloud) -> None:
    """As it is told the coding, and to take gzip; so the header must stand at the object."""
    store = Store(reachable.url)
    acl = "public-read" if reachable.url.startswith("s3") else None
    store.put("page/manifest.json.gz", gzip.compress(TEXT), Properties(content_encoding="gzip", acl=acl))
    path = "artifacts/page/manifest.json.gz"
    url = f"{reachable.endpoint}/{quote(path)}"
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Content-Type"] == "application/json"
        assert gzip.decompress(response.read()) == TEXT


def test_s3_has_each_property(moto: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    properties = Properties(
        content_encoding="zstd", storage_class="STANDARD_IA", encryption_key="alias/artifacts", acl="public-read"
    )
    Store(moto.url).put("properties", b"{}", properties)
    client = boto3.client("s3", endpoint_url=moto.endpoint)
    head = client.head_object(Bucket="artifacts", Key="properties")
    assert (head["ContentType"], head["ContentEncoding"]) == ("application/json", "zstd")
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms")
    assert head["SSEKMSKeyId"] == "alias/artifacts"
    grants = client.get_object_acl(Bucket="artifacts", Key="properties")["Grants"]
    assert any(grant["Grantee"].get("URI", "").endswith("/AllUsers") for grant in grants)


@pytest.mark.azure
@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
def test_azure_has_each_property(reachable: Cloud) -> None:
    from azure.storage.blob import BlobClient

    Store(reachable.url).put("properties", b"{}", Properties(content_encoding="gzip", storage_class="Cool"))
    connection = reachable.environment["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobClient.from_connection_string(connection, "artifacts", "properties") as client:
        found = client.get_blob_properties()
    settings = found.content_settings
    assert (settings.content_type, settings.content_encoding) == ("application/json", "gzip")
    assert found.blob_tier == "Cool"


@pytest.mark.parametrize(
    ("url", "properties", "said"),
    [
        ("gs://b", Properties(storage_class="NEARLINE"), "artifacts.storage_class: gcsfs cannot set it"),
        ("gs://b", Properties(encryption_key="k"), "artifacts.encryption_key: gcsfs cannot set it"),
        ("gs://b", Properties(acl="private"), "artifacts.acl: gcsfs cannot set it"),
        ("abfs://b", Properties(acl="private"), "artifacts.acl: Azure cannot set it"),
        ("abfs://b", Properties(storage_class="Archive"), "cannot be read back"),
        ("abfs://b", Properties(storage_class="cool"), "Azure has no tier 'cool'; it has Archive, Cold, Cool, Hot"),
        ("s3://b", Properties(storage_class="GLACIER"), "cannot be read back"),
        ("s3://b", Properties(acl="publik"), "S3 has no canned ACL 'publik'"),
        ("file:///b", Properties(storage_class="COLD"), "a plain file system cannot set it"),
        ("memory://b", Properties(encryption_key="k"), "a plain file system cannot set it"),
    ],
)
def test_what_a_cloud_cannot_have_is_refused(
    url: str, properties: Properties, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "a")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "YQ==")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match=said):
        Store(url).arguments(properties)


def test_a_bucket_that_is_not_there_is_said(reachable: Cloud) -> None:
    if not reachable.endpoint:
        pytest.skip("a folder is made")
    store = Store(reachable.url.replace("artifacts", "nowhere"))
    for act in (
        lambda: store.put("a", b"1", Properties()),
        lambda: store.get("a"),
        lambda: store.create("b", b"2", Properties()),
    ):
        with pytest.raises(NotThere, match="nowhere") as raised:
            act()
        assert not raised.value.passing
    assert store.find("") == []


def test_a_file_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"file://{tmp_path}")
    store.put("a/b.json", b"before", Properties())

    def full(_: LocalFileSystem, path: str, *__: object, **___: object) -> None:
        Path(path).write_bytes(b"ha")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", full)
    with pytest.raises(StoreError, match="No space left"):
        store.put("a/b.json", b"after it", Properties())
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert store.get("a/b.json") == b"before"


def test_an_unknown_scheme_and_a_missing_client_are_said() -> None:
    with pytest.raises(UsageError, match="cannot store in gopher"):
        Store("gopher://b")
    code = """
import sys
sys.modules["adlfs"] = None
from spanline.artifacts.store import Store
from spanline.errors import UsageError
try:
    Store("abfs://b")
except UsageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'spanline[azure]'" in done.stdout


def test_errors_hold_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"key": "k", "secret": "canary-of-options", "endpoint_url": "http://127.0.0.1:9", "token": "canary-token"}

    async def told(*_: object, **__: object) -> None:
        raise OSError("refused: canary-of-options and canary-token at https://u:canary-pw@h")

    monkeypatch.setattr(s3fs.S3FileSystem, "_pipe_file", told)
    store = Store("s3://b", options)
    with pytest.raises(StoreError) as raised:
        store.put("a", b"", Properties())
    assert "canary" not in str(raised.value)


def test_s3_takes_the_policy_and_the_lifecycle_rule_of_the_documentation(moto: Cloud) -> None:
    import boto3

    text = (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text()
    policy, rules = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    client = boto3.client(
        "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="my-bucket")
    client.put_bucket_policy(Bucket="my-bucket", Policy=json.dumps(policy))
    client.put_bucket_lifecycle_configuration(Bucket="my-bucket", LifecycleConfiguration=rules)
    (found,) = client.get_bucket_lifecycle_configuration(Bucket="my-bucket")["Rules"]
    assert [each["StorageClass"] for each in found["Transitions"]] == ["STANDARD_IA", "GLACIER_IR"]
