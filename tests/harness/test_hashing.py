"""Hashes of token ids stay what they were, whatever makes them."""

import hashlib

import pytest
from deltamem_eval.hashing import hash_ids


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 65, 1001, 100_003])
def test_ids_are_four_little_endian_bytes_each(size: int) -> None:
    ids = [(index * 2_654_435_761) % 2**32 for index in range(size)]
    digest = hashlib.sha256()
    for token in ids:
        digest.update(token.to_bytes(4, "little"))
    assert hash_ids(ids) == hash_ids(tuple(ids)) == digest.hexdigest()[:16]


def test_a_digest_that_was_stored() -> None:
    assert hash_ids([]) == "e3b0c44298fc1c14"
    assert (
        hash_ids([1, 256, 151_643])
        == hashlib.sha256(bytes.fromhex("01000000000100005b500200")).hexdigest()[:16]
    )
