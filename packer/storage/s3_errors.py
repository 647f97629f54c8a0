"""What S3 and the way to it answer in trouble, in words that say what to do."""

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as ConnectError
from urllib3.exceptions import HTTPError

from clipshards.packer.storage.s3_secrets import without_secrets

# Errors of the way to the store, or of one that is away for a while; above 500 all but a few.
_PASSING_STATUS = (408, 429)
_LASTING_STATUS = (501, 505)
_PASSING_CODES = (
    "ConditionalRequestConflict",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
)
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
_REGION = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException")

_NO_CREDENTIALS = (
    "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
    "AWS_PROFILE; of a public bucket, AWS_NO_SIGN_REQUEST=YES"
)
_REMEDIES = {
    "AccessDenied": "the credentials do not allow this; ask for the right, or take others "
    "(AWS_PROFILE, AWS_ACCESS_KEY_ID)",
    "InvalidAccessKeyId": "the store does not know AWS_ACCESS_KEY_ID; look at the credentials and "
    "at AWS_ENDPOINT_URL",
    "SignatureDoesNotMatch": "the secret does not belong to the access key; look at "
    "AWS_SECRET_ACCESS_KEY",
    "NoSuchBucket": "there is no such bucket; make it, or look at the name and at AWS_ENDPOINT_URL",
    "NoSuchUpload": "another run, or a lifecycle rule of the bucket, removed what was uploaded so "
    "far; run again",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
    "InvalidBucketName": "no bucket can have this name",
} | dict.fromkeys(_EXPIRED, "the credentials have expired; get new ones, and run again")


# http.client and botocore take an answer whose head breaks off for one without content.
CUT_SHORT = "the answer broke off"


class Answer(Exception):  # noqa: N818 (an answer, of which some are errors)
    """An answer of S3 to a request of ours that is not what was asked for."""

    def __init__(self, status: int, body: bytes, region: str | None) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        found = re.search(rb"<Code>([A-Za-z0-9]+)</Code>", body)
        self.code = found[1].decode() if found else ""
        named = re.search(rb"<Region>([a-z0-9-]+)</Region>", body)
        self.region = region or (named[1].decode() if named else None)


class CredentialsExpiredError(BotoCoreError):  # type: ignore[misc]
    """What was asked for new credentials gave expired ones."""

    fmt = "the credentials have expired"


TROUBLES: tuple[type[Exception], ...] = (ClientError, BotoCoreError, HTTPError, Answer)
"""All that a request raises."""


def status_of(exc: Exception) -> int:
    """Return the HTTP status of an answer, 0 where none came."""
    if isinstance(exc, Answer):
        return exc.status
    if isinstance(exc, ClientError):
        return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return 0


def code_of(exc: Exception) -> str:
    """Return S3's name of an error, empty where it says none."""
    if isinstance(exc, Answer):
        return exc.code
    if isinstance(exc, CredentialsExpiredError):
        # As the store would say.
        return _EXPIRED[0]
    if isinstance(exc, ClientError):
        code = str(exc.response.get("Error", {}).get("Code") or "")
        # Answers without a body give the status in its place.
        return "" if code.isdigit() else code
    return ""


def is_passing(exc: Exception) -> bool:
    """Return whether the same request may well succeed later."""
    if isinstance(exc, ClientError | Answer):
        status = status_of(exc)
        of_server = status >= 500 and status not in _LASTING_STATUS
        return of_server or status in _PASSING_STATUS or code_of(exc) in _PASSING_CODES
    # Of urllib3 comes what breaks a body that had begun.
    broken = (ConnectError, HTTPClientError, IncompleteReadError, HTTPError)
    return isinstance(exc, broken) and "CERTIFICATE_VERIFY_FAILED" not in str(exc)


def is_expired(exc: Exception) -> bool:
    """Return whether credentials were good once, or may have been."""
    # What is asked for by HEAD is refused without a reason.
    return code_of(exc) in _EXPIRED or (status_of(exc) == 400 and not code_of(exc))


def words_for(exc: Exception) -> str:
    """Return what happened and what to do, without anything secret."""
    if isinstance(exc, NoCredentialsError | PartialCredentialsError):
        return _NO_CREDENTIALS
    if isinstance(exc, ProfileNotFound | TokenRetrievalError):
        return f"{without_secrets(str(exc))}; look at AWS_PROFILE and ~/.aws"
    status, code = status_of(exc), code_of(exc)
    region = _region_of(exc)
    if status == 301 or code in _REGION or (status == 400 and not code and region):
        known = f"it is in {region}: set AWS_REGION={region}" if region else "set AWS_REGION"
        return f"the bucket is in another region; {known}"
    if status == 307:
        elsewhere = f", or set AWS_REGION={region}" if region else ""
        return (
            f"the store sends on to another place ({code}), as it does while a bucket is new; wait "
            f"a while and run again{elsewhere}"
        )
    if code in _REMEDIES:
        return f"{code}: {_REMEDIES[code]}"
    if status == 403:
        # What is asked for by HEAD is refused without a reason.
        return (
            "the store refuses (403): the credentials are wrong or expired, do not allow this, or "
            "the clock of this machine is wrong"
        )
    if status == 400 and not code:
        return "the store refuses (400): the credentials may have expired; get new ones"
    if status == 404:
        return "there is no such file"
    if status:
        return f"the store answers {status} {code}".rstrip()
    # The query of an address may be a signature.
    return re.sub(r"\?[^\s\"']*", "", without_secrets(f"{type(exc).__name__}: {exc}"))


def _region_of(exc: Exception) -> str | None:
    if isinstance(exc, Answer):
        return exc.region
    if isinstance(exc, ClientError):
        headers = exc.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or exc.response.get("Error", {}).get("Region")
        return str(region) if region else None
    return None
