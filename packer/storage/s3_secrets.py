"""Keeping secrets out of the logs of the libraries that talk to S3."""

import logging
import re

# With DEBUG on, botocore writes down whole requests.
_LOGGERS = ("botocore.auth", "botocore.endpoint", "botocore.httpsession", "botocore.awsrequest")
_SECRETS = re.compile(
    # A header or a parameter of a query, in any of the ways in which botocore shows it.
    r"""(security-token['"]?\s*[:=]\s*b?['"]?|Signature=|Signature:?\n)[^'",&\s]+""",
    re.IGNORECASE,
)


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
    """Return a message without session tokens and signatures.

    >>> without_secrets("x-amz-security-token:abc")
    'x-amz-security-token:...'
    """
    return _SECRETS.sub(r"\1...", text)
