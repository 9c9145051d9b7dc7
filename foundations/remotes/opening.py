"""The storage of a remote by its URL."""

from __future__ import annotations

from urllib.parse import urlsplit

from foundations.errors import EnvironmentFailure
from foundations.remotes.local import LocalStorage
from foundations.remotes.storage import Storage, check_url

_PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "hf": ("huggingface_hub", "hf")}
"""The package that fsspec needs for a scheme, and the extra that installs it."""


def open_storage(url: str) -> Storage:
    """Return the storage at a URL. Raises: UsageError; EnvironmentFailure where a package is missing."""
    check_url(url)
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return LocalStorage(url)
    from foundations.remotes.object_store import ObjectStore

    try:
        return ObjectStore(url)
    except ImportError as error:
        package, extra = _PACKAGES.get(scheme, ("fsspec", "s3"))
        raise EnvironmentFailure(
            f"{scheme}:// needs the package {package}, which is not installed.\n"
            f"Install it: pip install 'open_prune[{extra}]', or pip install {package}"
        ) from error
