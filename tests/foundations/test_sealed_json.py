import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundations.errors import DamagedError, EnvironmentFailure
from foundations.storage import sealed_json

TREE = {"layers": [{"name": "fc", "kept": 12, "sha256": "none"}], "total": 1.5, "nothing": None}
DATA = sealed_json.to_bytes(TREE)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name not in ("sha256", "format")), plain, max_size=5))
def test_an_object_comes_back(tree):
    assert sealed_json.from_bytes(sealed_json.to_bytes(tree)) == tree


def test_a_flip_of_any_bit_is_noticed():
    for at in range(len(DATA)):
        for bit in range(8):
            data = bytearray(DATA)
            data[at] ^= 1 << bit
            with pytest.raises(ValueError, match="it|its"):
                sealed_json.from_bytes(bytes(data))


def test_what_was_written_without_a_digest_is_read():
    assert sealed_json.from_bytes(json.dumps(TREE).encode()) == TREE


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError, match="it is not"):
        sealed_json.from_bytes(data)


def test_a_newer_format_is_refused_and_is_no_damage():
    data = sealed_json.to_bytes({**TREE, "format": 3})
    with pytest.raises(
        EnvironmentFailure, match=r"^here.json is of format 3, .* reads formats 1 to 2: use a newer"
    ) as error:
        sealed_json.from_bytes(data, "here.json")

    assert not isinstance(error.value, DamagedError)
    with pytest.raises(ValueError, match="SHA-256"):
        sealed_json.from_bytes(data.replace(b'"format": 3', b'"format": 4'))


@pytest.mark.parametrize("stated", [True, 2.0, "2", None, [], {}])
def test_a_format_is_an_integer(stated):
    with pytest.raises(EnvironmentFailure, match="reads formats 1 to 2"):
        sealed_json.from_bytes(sealed_json.to_bytes({**TREE, "format": stated}))
