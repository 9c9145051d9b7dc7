"""Signatures of manifests and shared files: ed25519, by the package `cryptography`, which only these functions import.

A key signs bytes for a purpose, so that a signature of one kind of file is none of another. Whoever receives them
trusts the public keys in a list of their own, each under a name. The private key is a file of the user's, not of the
root: roots are copied and shared.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.files import explain_os_errors, read_file, write_atomically
from foundations.program import PROGRAM

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PREFIX = "ed25519:"
_PUBLIC = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=")
_NAME = re.compile(r"[\w.@-]{1,64}")
_MANIFEST = "manifest of"


@dataclass(frozen=True)
class Signature:
    """A signature and the public key that verifies it."""

    key: str
    """`ed25519:` and the 32 bytes of the public key in Base64."""
    signature: str
    """64 bytes in Base64."""

    def to_bytes(self) -> bytes:
        """Return the content of a file with the signature: JSON."""
        return (json.dumps({"key": self.key, "signature": self.signature}, indent=1) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Signature:
        """Read what `to_bytes` returned. Raises: ValueError for anything else."""
        try:
            tree: Any = json.loads(data)
            found = cls(tree["key"], tree["signature"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError("it is not a signature") from error
        if len(tree) != 2 or not isinstance(found.key, str) or not isinstance(found.signature, str):
            raise ValueError("it is not a signature")
        return found


def sign_manifest(location: str, manifest: bytes, key_file: Path) -> Signature:
    """Sign the manifest of the run at a location. Raises: as `sign`."""
    return sign(f"{_MANIFEST} {location}", manifest, key_file)


def verify_manifest(location: str, manifest: bytes, signature: Signature, trusted_file: Path) -> str:
    """Verify the signature of a manifest; return the name of the trusted key, empty if it is unknown.

    Raises: DamagedError if the signature is not of this manifest at this location, or not by its key.
    """
    return verify(f"{_MANIFEST} {location}", manifest, signature, trusted_file)


def sign(purpose: str, data: bytes, key_file: Path) -> Signature:
    """Sign data. purpose: the kind of the data. Raises: EnvironmentFailure if there is no key, or no `cryptography`."""
    key = _private_key(key_file)
    return Signature(_text_of(key), base64.b64encode(key.sign(_message(purpose, data))).decode())


def verify(purpose: str, data: bytes, signature: Signature, trusted_file: Path) -> str:
    """Verify a signature; return the name of the trusted key, empty if its key is not in the list.

    Raises: DamagedError if the signature is of other data or another key; EnvironmentFailure without `cryptography`.
    """
    _check_installed()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        if not _PUBLIC.fullmatch(signature.key):
            raise ValueError("it is not a public key")
        public = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(signature.key.removeprefix(_PREFIX), validate=True)
        )
        public.verify(base64.b64decode(signature.signature, validate=True), _message(purpose, data))
    except (InvalidSignature, ValueError, binascii.Error) as error:
        raise DamagedError(
            f"The signature of the {purpose} is not valid: it was changed after it was signed."
        ) from error
    return trusted_keys(trusted_file).get(signature.key, "")


def make_key(key_file: Path) -> str:
    """Make a key and return its public part. Raises: UsageError if there is one already; EnvironmentFailure."""
    _check_installed()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with explain_os_errors("write", key_file):
        key_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Only the user may read it, whatever the umask.
            handle = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise UsageError(f"{key_file} is there already; `{PROGRAM} key show` prints its public part.") from None
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    return _text_of(key)


def public_key(key_file: Path) -> str:
    """Return the public part of a key. Raises: EnvironmentFailure if there is none, or it cannot be read."""
    return _text_of(_private_key(key_file))


def trusted_keys(trusted_file: Path) -> dict[str, str]:
    """Return the names of trusted keys by public key. Raises: EnvironmentFailure where the list cannot be read."""
    try:
        lines = read_file(trusted_file).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {trusted_file}: {error.strerror}.") from error
    pairs = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    wrong = next((pair for pair in pairs if len(pair) != 2 or not _PUBLIC.fullmatch(pair[0])), None)
    if wrong is not None:
        raise EnvironmentFailure(f"{trusted_file}: '{' '.join(wrong)}' is not a public key and a name.")
    return {pair[0]: pair[1] for pair in pairs}


def trust(name: str, key: str, trusted_file: Path) -> None:
    """Add a public key to the trusted ones. Raises: UsageError for anything but a key, or a name that is taken."""
    known = trusted_keys(trusted_file)
    if not _PUBLIC.fullmatch(key):
        raise UsageError(f"'{key}' is not a public key; `{PROGRAM} key show` prints one: {_PREFIX}...")
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is not a name; use letters, digits, '.', '-', '_' and '@'.")
    if name in known.values() and known.get(key) != name:
        raise UsageError(f"'{name}' is the name of another trusted key; remove that line of {trusted_file} first.")
    lines = [f"{each} {of}\n" for each, of in {**known, key: name}.items()]
    write_atomically(trusted_file, "".join(lines).encode())


def _private_key(key_file: Path) -> Ed25519PrivateKey:
    _check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_file(key_file), password=None)
    except FileNotFoundError:
        raise EnvironmentFailure(f"There is no key {key_file}. `{PROGRAM} key make` makes one.") from None
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {key_file}: {error.strerror}.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise EnvironmentFailure(f"{key_file} is not a private key without a password, in PEM.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EnvironmentFailure(f"{key_file} holds another kind of key than ed25519.")
    return key


def _text_of(key: Ed25519PrivateKey) -> str:
    return _PREFIX + base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _message(purpose: str, data: bytes) -> bytes:
    return f"open_prune {purpose}\n".encode() + data


def _check_installed() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise EnvironmentFailure("Signatures need the package cryptography: pip install cryptography") from error
