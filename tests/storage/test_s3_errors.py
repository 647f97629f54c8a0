"""What the user has to mend: one error each that says how, and nothing secret in any of them."""

import configparser
import logging
import os
import pickle
import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fault_proxy import Fault, FaultProxy
from s3_server import S3Server, free_ports

from clipshards.packer.format.errors import DatasetError, StorageError
from clipshards.packer.storage import Storage, open_storage, patience, s3_connection

STAGING = "train/.build"
WRONG_SECRET = "wrong+secret/0123456789abcdefghijklmnopq"
TOKEN = "token/of+the//session==0123456789abcdefghijklmnopqrstuvwxyz"
PASSWORD = "password-in-an-address"


@pytest.fixture
def proxy(s3_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """Return a proxy with little patience of its clients."""
    monkeypatch.setattr(s3_connection, "READ_S", 5.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "2")
    return s3_proxy


def begin_writer(storage: Storage) -> None:
    with storage.writer("train/a", staging=STAGING) as write:
        write(b"x")


# What is refused with a reason, and what is asked for by HEAD, which gets none.
WITH_REASON: dict[str, Callable[[Storage], object]] = {
    "read": lambda storage: storage.read("train/a", 0, 1),
    "begin_read": lambda storage: storage.begin_read("train/a", 0, 1).result(),
    "read_all": lambda storage: storage.read_all("train/a"),
    "put": lambda storage: storage.put("train/a", b"x", staging=STAGING),
    "put_new": lambda storage: storage.put_new("train/a", b"x", staging=STAGING),
    "remove": lambda storage: storage.remove("train/a"),
    "sizes": lambda storage: storage.sizes("train"),
    "folders": lambda storage: storage.folders(),
    "remove_folder": lambda storage: storage.remove_folder("train"),
    "remove_unfinished": lambda storage: storage.remove_unfinished("train"),
}
BY_HEAD: dict[str, Callable[[Storage], object]] = {
    "size": lambda storage: storage.size("train/a"),
    "writer": begin_writer,
}
ALL = WITH_REASON | BY_HEAD


def said(location: str, *names: str) -> dict[str, str]:
    """Return what the StorageErrors of accesses say, all by default, each with the location."""
    storage, found = open_storage(location), {}
    for name in names or ALL:
        with pytest.raises(StorageError, match=re.escape(location)) as caught:
            ALL[name](storage)
        found[name] = str(caught.value)
    return found


def check(found: dict[str, str], reason: str, *, by_head: str = "") -> None:
    """Look for what errors are to say; by HEAD the store gives no reason."""
    for name, text in found.items():
        assert (by_head if by_head and name in BY_HEAD else reason) in text, name


REFUSES = "the store refuses (403): the credentials are wrong or expired, do not allow this, or the"


class TestCredentials:
    """Those that are not there, not right, or not good any more."""

    @pytest.mark.parametrize("missing", ["both", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
    def test_none_are_named_with_the_variables(
        self, missing: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            if missing in ("both", name):
                monkeypatch.delenv(name)
        found = said(s3_location, "read", "put", "size", "sizes")
        check(found, "no AWS credentials were found; set AWS_ACCESS_KEY_ID")
        check(found, "AWS_PROFILE")

    def test_wrong_secret(self, s3_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG_SECRET)
        reason = "the secret does not belong to the access key"
        check(said(s3_location), reason, by_head=REFUSES)

    def test_unknown_key(self, s3_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODYKNOWSTHIS0")
        reason = "the store does not know AWS_ACCESS_KEY_ID"
        check(said(s3_location), reason, by_head=REFUSES)

    def test_expired(self, s3_location: str, proxy: FaultProxy) -> None:
        proxy.faults = [Fault(times=None, status=400, code="ExpiredToken")]
        found = said(s3_location)
        check(found, "expired; get new ones", by_head="the credentials may have expired")

    @pytest.mark.parametrize("access", ALL)
    @pytest.mark.parametrize("before", [(), (Fault(status=503),)], ids=["", "after 503"])
    def test_expired_ones_are_read_anew_once(
        self,
        before: tuple[Fault, ...],
        access: str,
        s3_server: S3Server,
        s3_location: str,
        proxy: FaultProxy,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def hand_out(secret: str) -> None:
            kept = configparser.ConfigParser()
            kept["default"] = {
                "aws_access_key_id": s3_server.access_key,
                "aws_secret_access_key": secret,
            }
            with (tmp_path / "credentials").open("w") as file:
                kept.write(file)

        open_storage(s3_location).put("train/a", b"x", staging=STAGING)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        hand_out(WRONG_SECRET)
        renew = partial(hand_out, s3_server.secret_key)
        proxy.faults = [
            *(replace(one) for one in before),
            Fault(status=400, code="ExpiredToken", call=renew),
        ]
        ALL[access](open_storage(s3_location))
        assert proxy.faults[-1].times == 0

    def test_missing_profile(self, s3_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        found = said(s3_location, "read", "put", "size")
        check(found, "(nobody) could not be found; look at AWS_PROFILE and ~/.aws")

    def test_right_that_is_not_given(self, s3_location: str, proxy: FaultProxy) -> None:
        proxy.faults = [Fault(times=None, status=403, code="AccessDenied")]
        reason = "AccessDenied: the credentials do not allow this; ask for the right"
        check(said(s3_location), reason, by_head=REFUSES)

    @pytest.mark.parametrize("access", ["read", "size", "put", "sizes"])
    def test_process_that_gives_expired_ones_is_asked_twice(
        self, access: str, s3_location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = '{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"%s"}'
        (tmp_path / "given").write_text(given % "2020-01-01T00:00:00Z")
        (tmp_path / "config").write_text(
            "[default]\ncredential_process = "
            f"sh -c 'echo >> {tmp_path}/asked; cat {tmp_path}/given'"
        )
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        check(said(s3_location, access), "the credentials have expired; get new ones")
        assert len((tmp_path / "asked").read_text()) > 1

    def test_wrong_clock(self, s3_location: str, proxy: FaultProxy) -> None:
        proxy.faults = [Fault(times=None, status=403, code="RequestTimeTooSkewed")]
        check(said(s3_location), "the clock of this machine is wrong")

    def test_anonymous_access_that_is_not_given(
        self, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
        check(said(s3_location), "AccessDenied: ", by_head=REFUSES)


class TestPlace:
    """A bucket, region or endpoint that is not the right one."""

    def test_no_such_bucket(self, s3_location: str) -> None:
        location = f"s3://nobody-made-this-{secrets.token_hex(4)}/x"
        reason = "NoSuchBucket: there is no such bucket; make it, or"
        check(said(location, *WITH_REASON, "writer"), reason)

    @pytest.mark.parametrize(
        ("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")]
    )
    def test_wrong_region_is_named_with_the_right_one(
        self, status: int, code: str, s3_location: str, proxy: FaultProxy
    ) -> None:
        elsewhere = {"x-amz-bucket-region": "eu-north-1"}
        proxy.faults = [Fault(times=None, status=status, code=code, headers=elsewhere)]
        reason = "the bucket is in another region; it is in eu-north-1: set AWS_REGION=eu-north-1"
        check(said(s3_location), reason)

    def test_wrong_region_without_the_right_one(self, s3_location: str, proxy: FaultProxy) -> None:
        proxy.faults = [Fault(times=None, status=301, code="PermanentRedirect")]
        check(said(s3_location), "the bucket is in another region; set AWS_REGION")

    @pytest.mark.parametrize("region", ["", "eu-north-1"])
    def test_new_bucket_that_the_store_sends_on_from(
        self, region: str, s3_location: str, proxy: FaultProxy
    ) -> None:
        headers = {"Location": "http://127.0.0.1:9/"}
        if region:
            headers["x-amz-bucket-region"] = region
        proxy.faults = [Fault(times=None, status=307, code="TemporaryRedirect", headers=headers)]
        found = said(s3_location)
        check(found, "as it does while a bucket is new; wait a while and run again")
        if region:
            check(found, f"or set AWS_REGION={region}")

    def test_endpoint_that_nobody_listens_at(
        self, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(patience, "_FIRST_S", 0.05)
        found = said(s3_location)
        check(found, f'Could not connect to the endpoint URL: "{endpoint}/videos')
        check(found, " tries in 0 s")

    @pytest.mark.parametrize("bundle", ["", "none.pem"])
    def test_endpoint_that_speaks_no_tls(
        self, bundle: str, s3_server: S3Server, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint.replace("http:", "https:"))
        monkeypatch.setattr(patience, "_FIRST_S", 0.2)
        if bundle:
            monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
        check(said(s3_location, "read", "put", "size"), "SSL")

    @pytest.mark.parametrize("endpoint", ["nowhere", "http://", "ftp://127.0.0.1:1"])
    def test_endpoint_that_is_no_address(
        self, endpoint: str, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setattr(patience, "_FIRST_S", 0.2)
        said(s3_location, "read", "put", "size")

    def test_patience_that_is_no_number(
        self, s3_location: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = open_storage(s3_location)
        for seconds in ("soon", "-1", "nan", "inf"):
            monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", seconds)
            for work in ALL.values():
                with pytest.raises(StorageError, match=f"seconds of at least 0, got '{seconds}'"):
                    work(storage)


class TestSecrets:
    """Nothing secret in errors, logs of ours and pickles."""

    @pytest.fixture
    def shown(self, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[BaseException], None]]:
        """Return a function that takes errors; what they and our loggers show is looked through."""
        texts: list[str] = []

        def take(error: BaseException | None) -> None:
            assert error is not None
            texts.append("".join(traceback.format_exception(error)))
            while error is not None:
                texts.extend((str(error), repr(error), repr(error.args)))
                hidden = error.__suppress_context__
                error = error.__cause__ or (None if hidden else error.__context__)

        secret = [os.environ["AWS_SECRET_ACCESS_KEY"], WRONG_SECRET, TOKEN, PASSWORD]
        with caplog.at_level(logging.DEBUG, logger="clipshards"):
            yield take
        texts += [
            f"{record.getMessage()} {record.__dict__}"
            for record in caplog.records
            if record.name.startswith("clipshards")
        ]
        assert texts
        for text in texts:
            for one in (*secret, "X-Amz-Signature", "Signature=", "X-Amz-Security-Token"):
                assert one.lower() not in text.lower(), text

    @pytest.mark.parametrize(
        "fault",
        [
            None,
            Fault(times=None, status=503),
            Fault(times=None, status=403, code="SignatureDoesNotMatch"),
            Fault(times=None, status=400, code="ExpiredToken"),
            Fault(times=None, status=301, code="PermanentRedirect"),
            Fault(times=None, status=418, code="Teapot"),
            Fault(times=None, drop=True),
            Fault(times=None, head_bytes=10),
            Fault(times=None, end_at=0),
        ],
        ids=lambda fault: "wrong credentials" if fault is None else fault.code,
    )
    def test_errors_show_none(
        self,
        fault: Fault | None,
        s3_location: str,
        proxy: FaultProxy,
        shown: Callable[[BaseException], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0.02")
        if fault is None:
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", WRONG_SECRET)
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        proxy.faults = [fault] if fault else []
        storage = open_storage(s3_location)
        for work in ALL.values():
            try:
                work(storage)
            except DatasetError as exc:
                shown(exc)

    @pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "HTTP_PROXY"])
    @pytest.mark.parametrize(
        "address",
        [
            "http://user:{}@127.0.0.1:{}",
            "user:{}@127.0.0.1:{}",
            "http://user:{}@127.0.0.1:9{}",
            "http://user:{}@ho st:{}",
            "http://user:{}/x@127.0.0.1:{}",
            "http://user:x@{}@127.0.0.1:{}",
            "http://user:{}#@127.0.0.1:{}",
            "http://user:{}?x@127.0.0.1:{}",
            "http://user:x%40{}@127.0.0.1:{}",
        ],
    )
    def test_addresses_with_a_password_do_not_show_it(
        self,
        address: str,
        name: str,
        s3_location: str,
        shown: Callable[[BaseException], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0")
        if name == "HTTP_PROXY":
            # Proxies are not asked for what stands on this machine.
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.example.invalid")
        monkeypatch.setenv(name, address.format(PASSWORD, free_ports(1)[0]))
        storage = open_storage(s3_location)
        for work in ("read", "put", "size"):
            with pytest.raises(StorageError) as caught:
                ALL[work](storage)
            shown(caught.value)

    @pytest.mark.parametrize("name", ["AWS_SESSION_TOKEN", "AWS_SECRET_ACCESS_KEY"])
    def test_credentials_that_cannot_be_sent_are_not_shown(
        self,
        name: str,
        s3_location: str,
        shown: Callable[[BaseException], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0")
        monkeypatch.setenv(name, TOKEN + "\n" + PASSWORD)
        storage = open_storage(s3_location)
        for work in ("read", "put", "size"):
            with pytest.raises(StorageError) as caught:
                ALL[work](storage)
            shown(caught.value)

    def test_broken_settings_are_not_shown(
        self,
        s3_location: str,
        tmp_path: Path,
        shown: Callable[[BaseException], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "credentials").write_text(f"[default]\n{PASSWORD}")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        for work in ("read", "put", "size"):
            with pytest.raises(StorageError, match="credentials") as caught:
                ALL[work](open_storage(s3_location))
            shown(caught.value)

    def test_pickles_and_reprs_hold_none(
        self,
        s3_location: str,
        proxy: FaultProxy,
        shown: Callable[[BaseException], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        storage = open_storage(s3_location)
        for work in (ALL["put"], ALL["read"], ALL["writer"], ALL["sizes"]):
            work(storage)
        with pytest.raises(StorageError) as caught:
            storage.read("none", 0, 1)
        shown(caught.value)
        kept = pickle.dumps(storage)
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        for one in (secret, os.environ["AWS_ACCESS_KEY_ID"], proxy.endpoint):
            assert one.encode() not in kept
        assert secret not in f"{storage!r} {storage} {vars(storage)}"
        assert secret not in repr(vars(vars(storage)["_process"]))

    def test_errors_survive_a_pickle(self, s3_location: str, proxy: FaultProxy) -> None:
        # They come back from worker processes.
        storage = open_storage(s3_location)
        for work in ALL.values():
            proxy.faults = [Fault(status=418, code="Teapot")]
            with pytest.raises(StorageError, match="418") as caught:
                work(storage)
            again = pickle.loads(pickle.dumps(caught.value))
            assert (type(again), str(again)) == (type(caught.value), str(caught.value))

    def test_debug_logs_of_the_libraries_show_none(
        self,
        s3_location: str,
        proxy: FaultProxy,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        with caplog.at_level(logging.DEBUG):
            storage = open_storage(s3_location)
            for work in ALL.values():
                with suppress(DatasetError):
                    work(storage)
        assert "CanonicalRequest" in caplog.text
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        for record in caplog.records:
            text = f"{record.getMessage()} {record.__dict__}"
            assert not any(one in text for one in (TOKEN, secret)), text
            assert not re.search(r"Signature[=:\n ]+[0-9a-f]{64}", text), text
        assert proxy.requests
