"""Keeping secrets out of what the libraries that talk to S3 log, and say in errors."""

import logging
import os
import re
from urllib.parse import unquote

# With DEBUG on, botocore writes down whole requests.
_LOGGERS = ("botocore.auth", "botocore.endpoint", "botocore.httpsession", "botocore.awsrequest")
_SECRETS = re.compile(
    # A header or a parameter of a query, in any of the ways in which botocore shows it.
    r"""(security-token['"]?\s*[:=]\s*b?['"]?|Signature=|Signature:?\n)[^'",&\s]+""",
    re.IGNORECASE,
)
# User and password, also of an address without a scheme.
_IN_ADDRESS = re.compile(r"""(?<=//)[^/@\s"']*@|[^/:@\s"']+:[^/@\s"']+@""")
_LEAST = 3


class _WithoutSecrets(logging.Filter):
    """Blanks tokens and signatures."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_secrets(record.getMessage()), ()
        return True


_FILTER = _WithoutSecrets()


def guard_logs() -> None:
    """Let the loggers of botocore write no session token and no signature. Safe to do again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)


def without_secrets(text: str) -> str:
    """Return a message without passwords, secret keys, session tokens and signatures.

    >>> without_secrets("x-amz-security-token:abc")
    'x-amz-security-token:...'
    >>> without_secrets("no answer from http://me:secret@localhost:80")
    'no answer from http://localhost:80'
    """
    text = _SECRETS.sub(r"\1...", _IN_ADDRESS.sub("", text))
    known = sorted(_known(), key=len, reverse=True)
    if not known:
        return text
    return re.sub("|".join(map(re.escape, known)), "...", text, flags=re.IGNORECASE)


def _known() -> set[str]:
    """Return the secrets of the environment, and the parts that a wrong address falls into."""
    secrets = [os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    for name, value in os.environ.items():
        if name.upper().startswith("AWS_ENDPOINT_URL") or name.upper().endswith("_PROXY"):
            user = value.rpartition("://")[2].rpartition("@")[0]
            secrets.append(user.partition(":")[2])
    parts = {part for one in secrets for part in (one, *re.split(r"[\s/?#@]", one))}
    # Less would be found in every second word.
    return {form for part in parts for form in (part, unquote(part)) if len(form) >= _LEAST}
