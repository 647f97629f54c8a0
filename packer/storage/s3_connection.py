"""One connection to S3: a client, its credentials, and reads by botocore's parts."""

import io
import os
from functools import cache
from importlib.metadata import version
from typing import Any

import boto3
import botocore.session
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies, percent_encode
from urllib3 import HTTPResponse

from clipshards.packer.format.errors import StorageError
from clipshards.packer.storage.s3_errors import Answer, CredentialsExpiredError, words_for
from clipshards.packer.storage.s3_secrets import guard_logs, without_secrets

_CONNECT_S = 10.0
READ_S = 20.0
_CONNECTIONS = 128
_YES = ("1", "true", "yes", "on")
_ANY_KEY = "key"
# What botocore leaves as it is in the keys of addresses.
_KEPT_IN_KEYS = "/~"


class S3Connection:
    """Settings and credentials as they were read at one moment; safe in any thread."""

    def __init__(self, url: str, bucket: str) -> None:
        """Read them; no request is made.

        Args:
            url: The location, for errors.
            bucket: Its bucket.

        Raises:
            StorageError: The settings of AWS cannot be used.
        """
        self._bucket = bucket
        self._payer = os.environ.get("AWS_REQUEST_PAYER", "")
        self._unsigned = os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in _YES
        # Address of the bucket and its region, once one of its objects was asked for.
        self._found: tuple[str, str] | None = None
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
            self._client = boto.client("s3", config=config)
            self._client.meta.events.register("before-send.s3.HeadBucket", _no_answer)
            self._client.meta.events.register("before-send.s3.GetObject", _as_asked)
            self._http = URLLib3Session(
                verify=self._session.get_config_variable("ca_bundle") or True,
                proxies=get_environ_proxies(self._client.meta.endpoint_url),
                timeout=(_CONNECT_S, READ_S),
                max_pool_connections=_CONNECTIONS,
            )
        except (BotoCoreError, ValueError) as exc:
            known = isinstance(exc, BotoCoreError)
            words = words_for(exc) if known else without_secrets(str(exc))
            raise StorageError(f"{url}: {words}") from None  # its own message may hold secrets

    @property
    def client(self) -> Any:
        """The client of botocore, whose next request has credentials that are good.

        Raises:
            BotoCoreError: There are none.
        """
        if not self._unsigned:
            self._credentials()
        return self._client

    @property
    def about_payer(self) -> dict[str, str]:
        """What requests for another payer's bucket say, as arguments of the client."""
        return {"RequestPayer": self._payer} if self._payer else {}

    def answer(self, method: str, key: str, headers: dict[str, str], *, where: str) -> AWSResponse:
        """Return the answer to a request for an object, its body unread.

        botocore's parts and not its `get_object`: a request costs a fifth of the CPU time.

        Args:
            method: GET or HEAD.
            key: The object.
            headers: What the request says besides, such as its range.
            where: What it is about, for errors.

        Raises:
            Answer: It is not 200 or 206.
            BotoCoreError: There was none.
            StorageError: The object has no address by the settings.
        """
        credentials = None if self._unsigned else self._credentials()
        url, region = self._address_of(key, where=where)
        if self._payer:
            headers = {**headers, "x-amz-request-payer": self._payer}
        request = AWSRequest(method, url, headers=headers, stream_output=method == "GET")
        if not self._unsigned:
            S3SigV4Auth(credentials, "s3", region).add_auth(request)
        answer = self._http.send(request.prepare())
        if answer.status_code not in (200, 206):
            raise Answer(
                answer.status_code, answer.content, answer.headers.get("x-amz-bucket-region")
            )
        return answer

    def _credentials(self) -> Any:
        """Return credentials, got anew where they expire; None where there are none."""
        found = self._session.get_credentials()
        try:
            return None if found is None else found.get_frozen_credentials()
        except RuntimeError:
            # So botocore says that the new ones had expired too.
            raise CredentialsExpiredError from None

    def _address_of(self, key: str, *, where: str) -> tuple[str, str]:
        """Return address and region of an object as botocore's rules have them."""
        if self._found is None:
            # They take a millisecond, and ask nothing of the key but how it is written.
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=_ANY_KEY)
            except BotoCoreError as exc:
                raise StorageError(f"{where}: {words_for(exc)}") from None
            asked = answer["ResponseMetadata"]["HTTPHeaders"]
            region = asked["x-region"] or self._client.meta.region_name
            self._found = asked["x-url"].partition("?")[0].removesuffix(_ANY_KEY), region
        bucket, region = self._found
        return bucket + percent_encode(key, safe=_KEPT_IN_KEYS), region


@cache
def _descriptions() -> Any:
    """Return what reads the descriptions of AWS's services, once: it takes a tenth of a second."""
    return botocore.session.Session().get_component("data_loader")


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
