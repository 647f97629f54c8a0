"""Settings of AWS's tools mean here what they mean there."""

import io
from pathlib import Path

import boto3
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from fault_proxy import FaultProxy
from s3_server import S3Server
from urllib3 import HTTPResponse

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage import Storage, open_storage
from clipshards.packer.storage.s3_connection import S3Connection
from clipshards.packer.storage.s3_head import crc32c_of

STAGING = "train/.build"


def use(storage: Storage) -> None:
    """Make each kind of request once."""
    storage.put("train/a", b"0123456789", staging=STAGING)
    with storage.writer("train/b", staging=STAGING, about={"shard": "1"}) as write:
        write(b"x" * 100)
    assert storage.read("train/a", 2, 3) == b"234"
    assert storage.sizes("train") == {"a": 10, "b": 100}
    storage.remove_unfinished("train")
    storage.remove("train/b")
    storage.remove_folder("train")


def test_requester_says_in_every_request_that_it_pays(
    s3_location: str, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(open_storage(s3_location))
    assert not any(request.headers.get("x-amz-request-payer") for request in s3_proxy.requests)
    monkeypatch.setenv("AWS_REQUEST_PAYER", "requester")
    before = len(s3_proxy.requests)
    use(open_storage(s3_location))
    later = s3_proxy.requests[before:]
    assert len(later) >= 8
    assert {request.headers.get("x-amz-request-payer") for request in later} == {"requester"}


def test_without_signing_nothing_is_signed(
    s3_location: str, s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    storage = open_storage(s3_location)
    for work in (lambda: storage.read("train/a", 0, 1), lambda: storage.sizes("train")):
        with pytest.raises(StorageError):
            work()
    assert s3_proxy.requests
    for request in s3_proxy.requests:
        assert "Authorization" not in request.headers
        assert "Signature" not in request.path


def test_profile_of_the_configuration_files_is_taken(
    s3_server: S3Server, s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {
        "aws_access_key_id": s3_server.access_key,
        "aws_secret_access_key": s3_server.secret_key,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in keys.items())
    (tmp_path / "credentials").write_text(f"[lab]\n{lines}")
    (tmp_path / "config").write_text(
        f"[profile lab]\nregion = us-east-1\nendpoint_url = {s3_server.endpoint}\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    use(open_storage(s3_location))


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({}, "https://videos.s3.us-west-2.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"}, "http://127.0.0.1:8333/videos/"),
        (
            {"AWS_ENDPOINT_URL_S3": "https://store.example.org/below"},
            "https://store.example.org/below/videos/",
        ),
    ],
    ids=["AWS", "by number", "by name"],
)
def test_addresses_are_those_of_botocore(
    settings: dict[str, str], address: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    asked: list[str] = []

    def kept(request: AWSRequest, **_: object) -> AWSResponse:
        asked.append(request.url)
        body = HTTPResponse(io.BytesIO(), preload_content=False)
        return AWSResponse(request.url, 200, {"content-length": "0"}, body)

    client = boto3.client("s3")
    client.meta.events.register("before-send.s3.GetObject", kept)
    connection = S3Connection("s3://videos", "videos")
    for key in ("set/a", "set/a b", "a+b%20c~d", "ä/ﬁ", "(1)!*'$&=:@,;", 'a"<>\\^`{|}[]'):
        client.get_object(Bucket="videos", Key=key)
        found = connection._address_of(key, where="x")[0]
        assert found == asked.pop()
        assert found.startswith(address)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"x-amz-checksum-crc32c": "4waSgw==", "x-amz-checksum-type": "FULL_OBJECT"}, 0xE3069283),
        ({"x-amz-checksum-crc32c": "4waSgw=="}, 0xE3069283),
        ({"x-amz-checksum-crc32c": "4waSgw==", "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-crc32c": "4waSgw==-2"}, None),
        ({"x-amz-checksum-crc32c": "4waS"}, None),
        ({"x-amz-checksum-crc32": "4waSgw=="}, None),
    ],
)
def test_checksum_of_a_store_counts_where_it_is_of_the_whole(
    answer: dict[str, str], expected: int | None
) -> None:
    assert crc32c_of(answer) == expected
