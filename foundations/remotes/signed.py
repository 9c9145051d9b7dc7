"""Signatures of runs in a remote: of their manifests there, which have the SHA-256 of every file that comes along."""

from __future__ import annotations

from pathlib import Path

from foundations.errors import DamagedError
from foundations.remotes import layout
from foundations.remotes.layout import CorruptError, RemoteManifest
from foundations.remotes.listing import Listing, RemoteRun, read_whole
from foundations.remotes.storage import Storage
from foundations.storage.signatures import Signature, trusted_keys, verify_manifest


class Signers:
    """The keys that a user trusts, and their signatures in one remote."""

    def __init__(self, storage: Storage, listing: Listing, trusted_file: Path) -> None:
        """Take the list of trusted keys. Raises: EnvironmentFailure where it cannot be read."""
        self._storage, self._listing, self._file = storage, listing, trusted_file
        self._trusted = {layout.key_digest(key) for key in trusted_keys(trusted_file)}

    def by_trusted(self, run: RemoteRun, manifest: str) -> list[str]:
        """Return the names of the signatures of a manifest whose names are of trusted keys."""
        found = run.signatures.get(manifest, {})
        return [found[key] for key in sorted(found.keys() & self._trusted)]

    def why_refused(self, run: RemoteRun) -> str:
        """Return why the listing shows no signature of a run that counts; empty if it shows one."""
        if any(self.by_trusted(run, name) for name in run.newest_first()):
            return ""
        return "it is signed by an unknown key" if run.signatures else "nobody has signed it"

    def verified(self, manifest: RemoteManifest, signature: str) -> str:
        """Return the name of the trusted key that signed a manifest. signature: the name of the object.

        Raises: CorruptError where the object is not a signature of this manifest by such a key.
        """
        data = read_whole(self._storage, signature, self._listing.sizes[signature], layout.MOST_OF_A_SIGNATURE)
        location = str(manifest.location)
        try:
            signer = verify_manifest(location, manifest.to_bytes(), Signature.from_bytes(data), self._file)
        except (DamagedError, ValueError) as error:
            raise CorruptError("it is not a signature of this manifest", data) from error
        if not signer:
            raise CorruptError("it is by another key than its name says", data)
        return signer
