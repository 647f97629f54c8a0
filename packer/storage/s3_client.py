"""The S3 clients of one process: settings, credentials, and how trouble is met."""

import io
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.patience import Patience
from clipshards.packer.storage.s3_errors import (
    CUT_SHORT,
    TROUBLES,
    Answer,
    is_expired,
    is_passing,
    words_for,
)
from clipshards.packer.storage.s3_secrets import guard_logs
from clipshards.packer.storage.threads import Threads

_CONNECT_S = 10.0
READ_S = 20.0
_CONNECTIONS = 128
_YES = ("1", "true", "yes", "on")


class S3Process:
    """What one process needs to talk to S3. Not for a process forked from it."""

    def __init__(self, url: str, bucket: str, *, reached: bool) -> None:
        """Set up; no request is made.

        Args:
            url: The location, for errors.
            bucket: Its bucket.
            reached: Whether its store has answered before, in another process.

        Raises:
            StorageError: The settings of AWS cannot be used.
        """
        self.bucket = bucket
        self.reached = reached
        self.threads = Threads()
        self._pid = os.getpid()
        self._url = url
        self.payer = os.environ.get("AWS_REQUEST_PAYER", "")
        self._unsigned = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES
        self._urls: dict[str, str] = {}
        self._connect()

    @property
    def is_mine(self) -> bool:
        """Whether it belongs to the process that asks; sockets and threads do not fork."""
        return self._pid == os.getpid()

    def _connect(self) -> None:
        config = Config(
            # Retries are ours: those of boto3 end after a second, or not at all within a body.
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=_CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=_CONNECTIONS,
            signature_version=UNSIGNED if self._unsigned else "s3v4",
            # Checksums are ours, computed as the bytes come by.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra=f"clipshards/{version('clipshards')}",
        )
        guard_logs()
        try:
            self._session = botocore.session.Session()
            self._session.register_component("data_loader", _descriptions())
            boto = boto3.session.Session(botocore_session=self._session)
            self.client = boto.client("s3", config=config)
            self.client.meta.events.register("before-send.s3.HeadBucket", _no_answer)
            self.client.meta.events.register("before-send.s3.GetObject", _as_asked)
            endpoint = self.client.meta.endpoint_url
            self._http = URLLib3Session(
                verify=self._session.get_config_variable("ca_bundle") or True,
                proxies=get_environ_proxies(endpoint),
                timeout=(_CONNECT_S, READ_S),
                max_pool_connections=_CONNECTIONS,
            )
        except (BotoCoreError, ValueError) as exc:
            words = words_for(exc) if isinstance(exc, BotoCoreError) else str(exc)
            raise StorageError(f"{self._url}: {words}") from exc
        self._urls.clear()
        self._region = self.client.meta.region_name

    def tried(self, request: Callable[[Any], Any], *, where: str) -> Any:
        """Return what a request gives, made again while the store is in passing trouble.

        Args:
            request: Called with the client, once or more.
            where: What it is about, for errors.

        Raises:
            ClientError: The store refuses, for a reason that the caller may know; those that
                are the user's to mend are StorageError.
            StorageError: It cannot be had, or not within the patience for it.
        """
        patience = Patience(reached=self.reached)
        while True:
            try:
                found = request(self.client)
                if not _is_whole(found):
                    raise ProtocolError(CUT_SHORT)
            except TROUBLES as exc:
                self.met(exc, patience, where=where)
            else:
                self.reached = True
                return found

    def met(self, trouble: Exception, patience: Patience, *, where: str, got: int = 0) -> None:
        """Wait if a request is worth another try, else raise.

        Raises:
            StorageError: It is not, or the patience is at its end.
            ClientError, Answer: The store refuses what was asked; the caller may know why.
        """
        if is_expired(trouble) and not patience.renewed:
            # Whoever keeps them in a file may have written new ones.
            patience.renewed = True
            patience.tries += 1
            self._connect()
            return
        if is_passing(trouble):
            if patience.again(got=got):
                return
            raise StorageError(
                f"{where}: {words_for(trouble)}; given up after {patience.tries} tries in "
                f"{patience.waited_s:.0f} s"
            ) from None  # its own message may hold what ours must not
        if isinstance(trouble, BotoCoreError):
            raise StorageError(f"{where}: {words_for(trouble)}") from None
        self.reached = True
        raise trouble

    def get(self, key: str, headers: dict[str, str], *, where: str) -> AWSResponse:
        """Return the answer to a GET of an object, its body unread.

        botocore's parts and not its `get_object`: a request costs a fifth of the CPU time.

        Raises:
            Answer: It is not 200 or 206.
            BotoCoreError: There was none.
        """
        url = self._url_of(key, where=where)
        if self.payer:
            headers = {**headers, "x-amz-request-payer": self.payer}
        request = AWSRequest("GET", url, headers=headers, stream_output=True)
        if not self._unsigned:
            credentials = self._session.get_credentials()
            S3SigV4Auth(credentials, "s3", self._region).add_auth(request)
        answer = self._http.send(request.prepare())
        if answer.status_code not in (200, 206):
            raise Answer(
                answer.status_code, answer.content, answer.headers.get("x-amz-bucket-region")
            )
        return answer

    def _url_of(self, key: str, *, where: str) -> str:
        """Return the address of an object as botocore's rules have it, for this store."""
        url = self._urls.get(key)
        if url is None:
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
            except BotoCoreError as exc:
                raise StorageError(f"{where}: {words_for(exc)}") from exc
            asked = answer["ResponseMetadata"]["HTTPHeaders"]
            url = asked["x-url"].partition("?")[0]
            self._region = asked["x-region"] or self._region
            if len(self._urls) >= _URLS_KEPT:
                self._urls.clear()
            self._urls[key] = url
        return url


@cache
def _descriptions() -> Any:
    """Return what reads the descriptions of AWS's services, once: it takes a tenth of a second."""
    return botocore.session.Session().get_component("data_loader")


_URLS_KEPT = 4096


def _is_whole(answer: Any) -> bool:
    """Return whether an answer of botocore has a head that did not break off."""
    if not isinstance(answer, dict):
        return True
    of_answer = answer["ResponseMetadata"]
    headers = of_answer["HTTPHeaders"]
    says_length = "content-length" in headers or "transfer-encoding" in headers
    return (of_answer["HTTPStatusCode"] == 204 or says_length) and is_whole_etag(
        headers.get("etag", '""')
    )


def is_whole_etag(etag: str) -> bool:
    """Return whether an ETag, which stands in quotes, did not break off."""
    return len(etag) >= 2 and etag[0] == etag[-1] == '"'


def _no_answer(request: AWSRequest, **_: object) -> AWSResponse:
    """Stand in for the HEAD of a bucket by which botocore looks for another region.

    A store that answers it with 301 and without the region would be asked for ever.
    """
    return AWSResponse(request.url, 404, {}, HTTPResponse(io.BytesIO(), preload_content=False))


def _as_asked(request: AWSRequest, **_: object) -> AWSResponse:
    """Stand in for the GET of an object: we make it ourselves, where botocore would.

    (Its presigned addresses are no help: they lead to the endpoint of all regions.)
    """
    signed = request.headers.get("Authorization", b"")
    text = signed.decode() if isinstance(signed, bytes) else signed
    # AWS4-HMAC-SHA256 Credential=<key>/<date>/<region>/s3/aws4_request, ...
    scope = text.partition(",")[0].split("/")
    region = scope[2] if len(scope) == 5 else ""
    asked = {"x-url": request.url, "x-region": region, "content-length": "0"}
    return AWSResponse(request.url, 200, asked, HTTPResponse(io.BytesIO(), preload_content=False))


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and prefix of an address s3://bucket/prefix.

    Raises:
        ValueError: It is no such address.
    """
    parts = urlsplit(url)
    path = url.removeprefix("s3://")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.rstrip("/")
    odd = "" in prefix.split("/") and prefix != ""
    if parts.scheme != "s3" or not bucket or odd or "?" in path or "#" in path:
        raise ValueError(f"{url}: expected s3://bucket or s3://bucket/prefix")
    return bucket, prefix
