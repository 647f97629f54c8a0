"""Fixtures for all tests. Makers of media are in makers.py, which tests import directly."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import makers
import pytest
from fault_proxy import FaultProxy
from hypothesis import settings
from s3_bucket import Bucket
from s3_server import S3Server

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real sample media that stands beside some checkouts.

    Tests that need it are skipped without it, and fail where CLIPSHARDS_NEED_SHARED is 1.
    """
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        if os.environ.get("CLIPSHARDS_NEED_SHARED") == "1":
            pytest.fail("CLIPSHARDS_NEED_SHARED is 1 and ../shared/data is not there")
        pytest.skip("needs the sample media of ../shared/data")
    return folder


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> makers.MediaRoot:
    """Return 16 small videos and their list, shared by all tests: look, do not write."""
    return makers.write_media_root(tmp_path_factory.mktemp("media_root"), 16)


@pytest.fixture(scope="session", autouse=True)
def _no_fsync() -> Iterator[None]:
    """Leave out what only a power cut would show: it takes half of the time of packing."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        # A file that is not open is an error for it too.
        monkeypatch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Return a running S3 server with the bucket `videos`, shared by all tests."""
    with S3Server(tmp_path_factory.mktemp("s3") / "server") as server:
        server.client().create_bucket(Bucket="videos")
        yield server


@pytest.fixture
def s3_location(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address of an empty location on it, which this process may use."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://videos/{secrets.token_hex(4)}/data set"


@pytest.fixture
def bucket(s3_server: S3Server, s3_location: str) -> Bucket:
    """Return that location as the server itself has it."""
    return Bucket.of(s3_server, s3_location)


@pytest.fixture
def s3_proxy(
    s3_server: S3Server, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Return a proxy without faults, by which this process reaches the store from now on."""
    with FaultProxy(s3_server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
