"""The storage of a remote: named objects that are written once, listed, and read in ranges.

Objects are never changed. `create` fails where the name is taken, as far as the service honours the condition; push
tests that (`foundations.remotes.push`).
"""

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from foundations.errors import EnvironmentFailure, OpenPruneError, UsageError, choose_from

REQUESTS_AT_ONCE = 16
"""Number of requests to a remote that are under way at once."""
_LASTING = ("file", "s3", "gs", "hf")
SCHEMES = (*_LASTING, "memory")
"""Kinds of remotes. One in memory ends with its process, and is for tests."""
_REASONS = {
    "NoSuchBucket": "There is no such bucket, or no such folder in it.",
    "AccessDenied": "The service refused the request: these credentials may not do it.",
    "InvalidAccessKeyId": "The service refused the request: it does not know the key.",
    "SignatureDoesNotMatch": "The service refused the request: the secret does not fit the key.",
    "ExpiredToken": "The service refused the request: the credentials have expired.",
    "NoCredentialsError": "There are no credentials.",
    "PartialCredentialsError": "The credentials are not complete.",
    "ProfileNotFound": "There is no such profile in the provider's settings.",
}
"""Sentences by the code or the class of an error of a provider's library. Its own messages may hold credentials."""
_CREDENTIALS = "Credentials come from the provider's own settings, such as AWS_PROFILE or ~/.aws."
_AGAIN = "The same command continues from what is there."


class Storage(ABC):
    """Named objects below a URL. Safe to use from several threads."""

    honours_conditions = True
    """Whether `create` sends a condition at all. A service may ignore it all the same."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def listed(self) -> dict[str, int]:
        """Return the sizes of all objects by name. Raises: EnvironmentFailure."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write an object; return False where the name is taken. Raises: EnvironmentFailure."""

    @abstractmethod
    def create_from(self, name: str, path: Path) -> bool:
        """Write an object from a file; return False where the name is taken. Raises: EnvironmentFailure."""

    @abstractmethod
    def read(self, name: str, start: int, size: int) -> bytes:
        """Return `size` bytes of an object at an offset, or fewer where it ends.

        Raises: MissingObject where there is no such object; EnvironmentFailure.
        """


class MissingObject(EnvironmentFailure):
    """An object that was listed is not there."""


def check_url(url: str) -> None:
    """Raise UsageError, which does not repeat credentials, for anything but the URL of a remote."""
    try:
        parts = urlsplit(url)
        has_login = "@" in parts.netloc
    except ValueError:
        raise UsageError("it is not a URL, such as s3://bucket/prefix or file:///lab/remote.") from None
    if has_login or parts.query or parts.fragment:
        raise UsageError(f"a URL of a remote holds no login, and nothing behind ? or #. {_CREDENTIALS}")
    if parts.scheme not in SCHEMES:
        raise UsageError(f"'{parts.scheme}' is not a kind of remote{choose_from(parts.scheme, _LASTING)}")
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise UsageError("write file:// and the absolute path of a folder, as in file:///lab/remote.")
    if parts.scheme != "file" and not parts.netloc:
        raise UsageError(f"the bucket is missing: {parts.scheme}://bucket/prefix.")
    if not url.isprintable() or any(part in (".", "..") for part in parts.path.split("/")):
        raise UsageError("its path may have neither '..' nor control characters.")


@contextlib.contextmanager
def explained(doing: str, url: str, name: str = "") -> Iterator[None]:
    """Turn any error of a backend inside the block into an EnvironmentFailure of two lines, without credentials."""
    place = f"{url}/{name}" if name else url
    try:
        yield
    except (OpenPruneError, ImportError):
        raise
    except FileNotFoundError as error:
        code = code_of(error)
        if name and doing == "read" and code != "NoSuchBucket":
            raise MissingObject(f"{place} is not there.") from None
        raise EnvironmentFailure(f"Cannot {doing} {place}: {_REASONS['NoSuchBucket']}") from None
    except Exception as error:
        raise EnvironmentFailure(f"Cannot {doing} {place}: {_reason(error)}") from None


def code_of(error: BaseException) -> str:
    """Return the code of the service's answer behind an error, or the name of the error's class."""
    found: BaseException | None = error
    while found is not None:
        response = getattr(found, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        found = found.__cause__
    return type(error).__name__


def _reason(error: Exception) -> str:
    code = code_of(error)
    known = _REASONS.get(code)
    if known is None and isinstance(error, PermissionError):
        known = _REASONS["AccessDenied"]
    if known is not None:
        return f"{known}\n{_CREDENTIALS}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}. Free some room there.\n{_AGAIN}"
    if isinstance(error, TimeoutError | ConnectionError) or "Connect" in code or "Timeout" in code:
        return f"the service does not answer ({code}). Check the network and the address.\n{_AGAIN}"
    if isinstance(error, OSError) and error.strerror and error.errno in errno.errorcode:
        return f"{error.strerror}.\n{_AGAIN}"
    return f"the service answered with an error ({code or type(error).__name__}).\n{_AGAIN}"
