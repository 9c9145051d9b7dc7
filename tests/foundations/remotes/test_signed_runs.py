"""With a list of trusted keys, a pull takes what one of them has signed, and refuses every other run by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from foundations.remotes import layout
from foundations.storage.manifest import MANIFEST
from foundations.storage.run import Run
from foundations.storage.signatures import make_key, public_key, trust
from tests.foundations.remotes.carrying import family, files_of, pull, push
from tests.foundations.remotes.hostile import Held
from tests.foundations.remotes.test_amended_runs import removed, replayed
from tests.foundations.remotes.test_round_trip import Ignoring, measured
from tests.foundations.toy_descriptions import complete_run, step, toy

pytest.importorskip("cryptography")


class Keys:
    """Ada, who is trusted, and Eve, who is not."""

    def __init__(self, folder: Path) -> None:
        self.ada, self.eve, self.trusted = folder / "ada.pem", folder / "eve.pem", folder / "trusted"
        self.eve_public = (make_key(self.ada), make_key(self.eve))[1]
        trust("ada", public_key(self.ada), self.trusted)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_signed_runs_arrive_whole(url: str, tmp_path: Path, keys: Keys) -> None:
    family(tmp_path / "here")
    push(url, tmp_path / "here", key_file=keys.ada)

    found = pull(url, tmp_path / "there", trusted_file=keys.trusted)

    assert len(found.sent) == 3 and found.problems == []
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def test_unsigned_runs_and_those_of_unknown_keys_are_refused_by_name_and_nothing_is_kept(
    url: str, tmp_path: Path, keys: Keys
) -> None:
    roots = [tmp_path / name for name in ("signed", "unsigned", "unknown")]
    signed, unsigned, unknown = (
        complete_run(root, toy(rate)) for root, rate in zip(roots, (0.1, 0.2, 0.3), strict=True)
    )
    for root, key in zip(roots, (keys.ada, None, keys.eve), strict=True):
        push(url, root, key_file=key)

    found = pull(url, tmp_path / "there", trusted_file=keys.trusted)

    assert found.sent == [signed.location]
    assert sorted(found.problems) == sorted(
        [f"{unsigned} was refused: nobody has signed it.", f"{unknown} was refused: it is signed by an unknown key."]
    )
    assert files_of(tmp_path / "there") == files_of(tmp_path / "signed")
    assert {path.name for path in (tmp_path / "there").iterdir()} == {signed.location.training, "format.json"}


def test_a_run_that_was_pushed_unsigned_is_signed_by_a_later_push(url: str, tmp_path: Path, keys: Keys) -> None:
    complete_run(tmp_path / "here")
    push(url, tmp_path / "here")

    again, third = (push(url, tmp_path / "here", key_file=keys.ada) for _ in range(2))

    assert (again.others, third.others) == (1, 0)
    assert len(pull(url, tmp_path / "there", trusted_file=keys.trusted).sent) == 1


def test_a_signed_run_that_got_a_further_manifest_here_is_signed_as_it_is_pushed(
    url: str, tmp_path: Path, keys: Keys
) -> None:
    run = complete_run(tmp_path / "here")
    replayed(run, 5, 0.5)
    removed(run, 0)
    push(url, tmp_path / "here", key_file=keys.ada)

    pull(url, tmp_path / "there", trusted_file=keys.trusted)

    arrived = Run(tmp_path / "there", run.location)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert (arrived.place / MANIFEST).read_bytes() == (run.place / MANIFEST).read_bytes()


def test_a_manifest_that_somebody_unknown_added_to_a_signed_run_does_not_count(
    url: str, tmp_path: Path, keys: Keys
) -> None:
    run = complete_run(tmp_path / "here")
    push(url, tmp_path / "here", key_file=keys.ada)
    replayed(complete_run(tmp_path / "eve"), 5, 6.6)
    assert push(url, tmp_path / "eve").problems == []

    trusting, signed = (
        pull(url, tmp_path / name, trusted_file=trusted) for name, trusted in (("any", None), ("ours", keys.trusted))
    )

    assert trusting.notes == [] and signed.notes == [f"{run} is as ada signed it; what was added since is not."]
    assert Run(tmp_path / "any", run.location).has_state(step(5))
    assert not Run(tmp_path / "ours", run.location).has_state(step(5))
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "here")


def test_nobody_signs_files_that_are_not_here(url: str, tmp_path: Path, keys: Keys) -> None:
    replayed(complete_run(tmp_path / "eve"), 5, 6.6)
    push(url, tmp_path / "eve")
    complete_run(tmp_path / "here")
    (manifest,) = (tmp_path / "eve").glob("*/*/main/manifest.json")
    same = manifest.relative_to(tmp_path / "eve")
    (tmp_path / "here" / same).write_bytes(manifest.read_bytes())

    found = push(url, tmp_path / "here", key_file=keys.ada)

    assert len(found.problems) == 1 and "has state_ep1_it0.safetensors there and not here" in found.problems[0]
    assert "was not signed" in found.problems[0]
    assert pull(url, tmp_path / "there", trusted_file=keys.trusted).sent == []


def test_nobody_signs_the_manifest_of_another_computation(url: str, tmp_path: Path, keys: Keys) -> None:
    complete_run(tmp_path / "eve")
    push(url, tmp_path / "eve")
    complete_run(tmp_path / "here")

    found = push(url, tmp_path / "here", key_file=keys.ada)

    assert "its manifest there is of another computation. It was not signed." in found.problems[0]


def test_of_manifests_with_one_number_the_signed_one_counts_where_a_service_ignores_conditions(
    tmp_path: Path, keys: Keys
) -> None:
    storage = Ignoring("memory://ignoring")
    signed = complete_run(tmp_path / "here")
    push(storage, tmp_path / "here", key_file=keys.ada)
    other = Ignoring("memory://other")
    complete_run(tmp_path / "eve", last=6.6)
    push(other, tmp_path / "eve", key_file=keys.eve)
    storage.objects |= other.objects  # as if both had been pushed at once

    found = pull(storage, tmp_path / "there", trusted_file=keys.trusted)

    assert found.sent == [signed.location]
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")


def _flipped(objects: dict[str, bytes], name: str) -> None:
    data = bytearray(objects[name])
    data[-20] ^= 1
    objects[name] = bytes(data)


def _of_another_run(objects: dict[str, bytes], name: str) -> None:
    other = next(each for each in objects if each.endswith(".signature") and each != name)
    objects[name] = objects[other]


def _huge(objects: dict[str, bytes], name: str) -> None:
    objects[name] = b"x" * 100_000


def _changed(objects: dict[str, bytes], name: str) -> None:
    digest = name.split(".")[-2]
    manifest = name.replace(f".{digest}.signature", ".manifest")
    objects[manifest], objects[name] = objects.pop(manifest), b"{}"


@pytest.mark.parametrize("damage", [_flipped, _of_another_run, _huge, _changed])
def test_a_signature_that_is_not_of_the_manifest_is_named_and_the_run_refused(
    tmp_path: Path, keys: Keys, damage: Callable[[dict[str, bytes], str], None]
) -> None:
    complete_run(tmp_path / "here", toy(0.1)), complete_run(tmp_path / "here", toy(0.2))
    storage = Held()
    push(storage, tmp_path / "here", key_file=keys.ada)
    name = next(name for name in storage.objects if name.endswith(".signature"))
    damage(storage.objects, name)

    found = pull(storage, tmp_path / "there", trusted_file=keys.trusted)

    assert len(found.sent) == 1 and str(found.sent[0]) not in name
    assert any(name in problem for problem in found.problems)
    assert any("was refused: no signature of it is valid." in problem for problem in found.problems)


def test_a_signature_of_an_unknown_key_under_the_name_of_a_trusted_one_does_not_count(
    tmp_path: Path, keys: Keys
) -> None:
    complete_run(tmp_path / "here")
    storage = Held()
    push(storage, tmp_path / "here", key_file=keys.eve)
    (name,) = (name for name in storage.objects if name.endswith(".signature"))
    manifest = next(filter(layout.RUN_MANIFEST.fullmatch, storage.objects))
    storage.objects[layout.signature_name(manifest, public_key(keys.ada))] = storage.objects.pop(name)

    found = pull(storage, tmp_path / "there", trusted_file=keys.trusted)

    assert found.sent == [] and any("by another key than its name says" in problem for problem in found.problems)


def test_results_of_measures_are_not_signed_and_stay(url: str, tmp_path: Path, keys: Keys) -> None:
    measured(tmp_path / "here", complete_run(tmp_path / "here"))
    push(url, tmp_path / "here", key_file=keys.ada)

    found = pull(url, tmp_path / "there", trusted_file=keys.trusted)

    assert found.notes == ["Results of measures are not signed, so 1 stayed in the remote."]
    assert len(found.sent) == 1 and not (tmp_path / "there" / ".measures").exists()
