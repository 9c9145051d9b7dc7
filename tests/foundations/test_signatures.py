from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage.signatures import (
    Signature,
    make_key,
    public_key,
    sign_manifest,
    trust,
    trusted_keys,
    verify_manifest,
)

pytest.importorskip("cryptography")
LOCATION = "train_0/replicate_1/main"


def test_a_manifest_is_verified_by_its_key_and_the_key_has_a_name_if_it_is_trusted(tmp_path: Path) -> None:
    key, trusted = tmp_path / "key.pem", tmp_path / "trusted"
    public = make_key(key)
    signature = Signature.from_bytes(sign_manifest(LOCATION, b"manifest", key).to_bytes())
    assert verify_manifest(LOCATION, b"manifest", signature, trusted) == ""
    trust("ada", public, trusted)
    assert verify_manifest(LOCATION, b"manifest", signature, trusted) == "ada"


def test_another_manifest_location_or_key_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    other = make_key(tmp_path / "other.pem")
    signature = sign_manifest(LOCATION, b"manifest", tmp_path / "key.pem")
    for location, data, found in (
        (LOCATION, b"another", signature),
        ("train_1/replicate_1/main", b"manifest", signature),
        (LOCATION, b"manifest", Signature(other, signature.signature)),
        (LOCATION, b"manifest", Signature(signature.key, "AAAA")),
        (LOCATION, b"manifest", Signature("ed25519:", signature.signature)),
        (LOCATION, b"manifest", Signature(signature.key, "ö")),
    ):
        with pytest.raises(DamagedError, match="not valid"):
            verify_manifest(location, data, found, tmp_path / "trusted")


def test_only_the_user_may_read_a_key_and_it_is_not_replaced(tmp_path: Path) -> None:
    key = tmp_path / "new" / "key.pem"
    before = os.umask(0)
    try:
        public = make_key(key)
    finally:
        os.umask(before)
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="already"):
        make_key(key)
    assert public_key(key) == public


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"null", b"\xff", b'{"key": 1, "signature": 2}', b"[" * 100_000]
)
def test_what_is_no_signature_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a signature"):
        Signature.from_bytes(content)


def test_keys_and_lists_of_another_form_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(EnvironmentFailure, match="There is no key"):
        public_key(path)
    path.write_text("not a key\n")
    with pytest.raises(EnvironmentFailure, match="not a private key"):
        public_key(path)
    with pytest.raises(EnvironmentFailure, match="not a key"):
        trusted_keys(path)
    path.unlink()
    for name, key in (("ada", "ssh-ed25519 AAAA"), ("a b", make_key(tmp_path / "k")), ("", public_key(tmp_path / "k"))):
        with pytest.raises(UsageError):
            trust(name, key, path)
    trust("ada", public_key(tmp_path / "k"), path)
    with pytest.raises(UsageError, match="another trusted key"):
        trust("ada", make_key(tmp_path / "k2"), path)
    assert trusted_keys(path) == {public_key(tmp_path / "k"): "ada"}
