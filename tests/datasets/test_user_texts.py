"""Texts that users add: files, folders, classes in folders, columns of tables; bytes and tokenizers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from datasets.formats import tokens as tokens_of
from datasets.prepared import fingerprint, load_tensors, read_header, split_path
from datasets.registry import DATASETS
from foundations.errors import EnvironmentFailure, UsageError
from tests.datasets.loading import add
from tests.datasets.made_tables import write_csv

KINGS = "once upon a time there was a king in Köln\n"


def documents(root: Path, split: str = "train", name: str = "mine") -> list[list[int]]:
    found = load_tensors(name, split, root / "datasets")
    ends = found["documents"].tolist()
    return [found["tokens"][a:b].tolist() for a, b in pairwise(ends)]


def as_text(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode()


def write_files(folder: Path, texts: Sequence[str], suffix: str = "txt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(texts):
        (folder / f"{number:03}.{suffix}").write_text(text, encoding="utf-8")
    return folder


def test_the_last_tenth_of_a_text_from_a_lines_start_is_for_testing(tmp_path: Path) -> None:
    text = "".join(f"{n} {KINGS}" for n in range(100))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")

    lines = add(tmp_path, tmp_path / "a.txt")

    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.vocabulary, spec.separator, spec.padding) == ("language_modelling", 257, 256, None)
    (train,), (test,) = documents(tmp_path), documents(tmp_path, "test")
    assert as_text(train) + as_text(test) == text and as_text(test).startswith("91 once")
    assert spec.train_tokens == len(train) and f"{len(test):,} test tokens" in lines[-1]


def test_each_file_of_a_folder_is_a_document_and_a_tenth_of_them_is_held_out(tmp_path: Path) -> None:
    texts = [KINGS * (n + 1) for n in range(20)]
    write_files(tmp_path / "in" / "deep", texts)
    (tmp_path / "in" / "deep" / "a.jpg.bin").write_bytes(b"x")
    (tmp_path / "in" / "deep" / "empty.txt").write_text("")

    lines = add(tmp_path, tmp_path / "in", task="language_modelling")

    found = documents(tmp_path) + documents(tmp_path, "test")
    assert sorted(map(as_text, found)) == sorted(texts)
    assert "skipped 1 file: 1 .bin" in lines and "skipped 1 empty text" in lines


def test_folders_and_files_named_like_splits_are_the_splits(tmp_path: Path) -> None:
    write_files(tmp_path / "in" / "train", ["a\n", "b\n"])
    write_files(tmp_path / "in" / "valid", ["c\n"])
    write_files(tmp_path / "in" / "test", ["d\n"])

    lines = add(tmp_path, tmp_path / "in", task="language_modelling")

    assert [as_text(each) for each in documents(tmp_path)] == ["a\n", "b\n"]
    assert [as_text(each) for each in documents(tmp_path, "test")] == ["d\n"]
    assert f"not read: {tmp_path / 'in' / 'valid'}" in lines


@pytest.mark.parametrize("with_test", [False, True])
def test_folders_of_texts_by_class_are_sequences_with_classes(tmp_path: Path, with_test: bool) -> None:
    for split in ("train", "test") if with_test else ("",):
        write_files(tmp_path / "in" / split / "neg", [f"bad {n}" for n in range(10)])
        write_files(tmp_path / "in" / split / "pos", [f"very good {n}" for n in range(10)])

        (tmp_path / "in" / split / "urls.txt").write_text("a list")

    lines = add(tmp_path, tmp_path / "in", task="sequence_classification")

    assert any("in no class folder" in line and "urls.txt" in line for line in lines)
    spec = DATASETS.find("mine")
    assert (spec.task.spelling, spec.num_classes, spec.padding, spec.separator) == (
        "sequence_classification",
        2,
        256,
        None,
    )
    assert spec.input_shape == (11,) and spec.num_train == (20 if with_test else 18)
    labels = load_tensors("mine", "train", tmp_path / "datasets")["labels"].tolist()
    assert labels == [as_text(each).startswith("very") for each in documents(tmp_path)]


def test_a_vocabulary_is_trained_on_the_training_texts_alone_and_decodes_to_them(tmp_path: Path) -> None:
    write_files(tmp_path / "in" / "train", [KINGS * 5, "a queen\n" * 9])
    write_files(tmp_path / "in" / "test", ["zebras zebras zebras zebras\n" * 20])

    add(tmp_path, tmp_path / "in", task="language_modelling", vocabulary=270)

    train = load_tensors("mine", "train", tmp_path / "datasets")
    tokenizer = Tokenizer.from_str(train["tokenizer"].numpy().tobytes().decode())
    assert tokenizer.decode(documents(tmp_path)[0]) == KINGS * 5
    assert tokenizer.decode(documents(tmp_path, "test")[0]) == "zebras zebras zebras zebras\n" * 20
    assert not any("zeb" in token for token in tokenizer.get_vocab())
    spec = DATASETS.find("mine")
    assert spec.vocabulary == 270 == len(train["token_bytes"])
    lengths = train["token_bytes"].numpy()
    assert lengths[documents(tmp_path)[0]].sum() == len((KINGS * 5).encode()) and lengths[spec.separator] == 0


def word_tokenizer(path: Path, words: Sequence[str], **special: int) -> Path:
    vocabulary = {"[UNK]": 0, **special, **{word: 10 + n for n, word in enumerate(words)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(special))
    if "[CLS]" in special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A", special_tokens=[("[CLS]", special["[CLS]"])]
        )
    tokenizer.enable_truncation(3)
    tokenizer.save(str(path))
    return path


def test_a_tokenizer_of_hugging_face_is_used_with_its_own_padding_and_beginning(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [["a b b a b", "0"], ["b a", "1"]] * 10, "words,y\n")
    file = word_tokenizer(tmp_path / "tokenizer.json", ["a", "b"], **{"[PAD]": 1, "[CLS]": 2})

    add(tmp_path, tmp_path / "a.csv", text="words", target="y", tokenizer=str(file))

    spec = DATASETS.find("mine")
    assert (spec.padding, spec.vocabulary, spec.input_shape) == (1, 12, (6,))
    assert sorted(documents(tmp_path))[-1] == [2, 11, 10] and [2, 10, 11, 11, 10, 11] in documents(tmp_path)


def test_another_tokenizer_with_the_same_tokens_is_another_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b\n" * 50)
    found = []
    for name, words in (("one", ["a", "b", "c"]), ("two", ["a", "b", "d"]), ("three", ["a", "b", "c"])):
        file = word_tokenizer(tmp_path / f"{name}.json", words)
        add(tmp_path, tmp_path / "a.txt", name, tokenizer=str(file))
        found.append(fingerprint(name, tmp_path / "datasets"))

    assert found[0] == found[2] != found[1]
    metadata = read_header(split_path("one", "train", tmp_path / "datasets")).metadata
    assert len(metadata["tokenizer"]) == 64 and metadata["vocabulary"] == "14"  # with the separator


def test_large_texts_are_tokenized_in_parts_to_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{n} {KINGS}" for n in range(60)) + "ö" * 400, encoding="utf-8")
    add(tmp_path, tmp_path / "a.txt", "whole")
    add(tmp_path, tmp_path / "a.txt", "whole_bpe", vocabulary=265)
    monkeypatch.setattr(tokens_of, "PART_BYTES", 17)

    add(tmp_path, tmp_path / "a.txt", "parts")
    add(tmp_path, tmp_path / "a.txt", "parts_bpe", vocabulary=265)

    for name in ("", "_bpe"):
        assert documents(tmp_path, name=f"parts{name}") == documents(tmp_path, name=f"whole{name}")


def test_a_column_of_texts_without_a_target_is_modelled(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [[f"text {n}", str(n)] for n in range(20)], "text,id\n")

    lines = add(tmp_path, tmp_path / "a.csv", text="text")

    assert DATASETS.find("mine").task.spelling == "language_modelling"
    assert "not read: id" in lines and len(documents(tmp_path)) == 18


def broken_tokenizer(path: Path) -> Path:
    path.write_text('{"model": {"type": "None"}}')
    return path


def test_malformed_texts_are_refused_in_a_sentence(tmp_path: Path) -> None:
    good = write_files(tmp_path / "good", [KINGS] * 20)
    latin = write_files(tmp_path / "latin", [KINGS] * 20)
    (latin / "004.txt").write_bytes(("one\ntwo\n" + KINGS).encode("latin-1"))
    wide = write_files(tmp_path / "wide", [])
    (wide / "a.txt").write_text(KINGS * 9, encoding="utf-16")
    mixed = write_files(tmp_path / "mixed" / "a", [KINGS] * 3).parent
    write_files(mixed / "b", [KINGS] * 3)
    (mixed / "loose.txt").write_text(KINGS)
    one_line = write_files(tmp_path / "one", [KINGS])
    empty = write_files(tmp_path / "empty", [""])
    holes = write_csv(tmp_path / "holes.csv", [["a", "0"], ["b", "1"]] * 5 + [["", "1"]], "text,y\n")
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (latin, {}, "004.txt: the text is not UTF-8 .line 3 of it"),
        (wide, {}, "a.txt, row 1: the text is UTF-16"),
        (mixed, {}, "^task: .*holds texts in folders; give sequence_classification"),
        (good, {"task": "sequence_classification"}, "good holds no texts in folders of classes"),
        (one_line, {}, "000.txt holds one line; training and testing need one each"),
        (empty, {}, "000.txt holds no text"),
        (holes, {"text": "text", "target": "y"}, "holes.csv, row 12, column 'text': the text is empty"),
        (holes, {"text": "why"}, "^text: 'why' is not a column"),
        (good, {"vocabulary": 100_000}, "^vocabulary: the training texts give a vocabulary of .* at most"),
        (good, {"tokenizer": str(broken_tokenizer(tmp_path / "t.json"))}, "t.json is not a tokenizer.json"),
        (good, {"tokenizer": "t.json", "vocabulary": 300}, "^tokenizer, vocabulary: "),
        (good, {"task": "regression"}, "^task: 'regression' is not a task of a folder of texts"),
        (good, {"image_size": 8}, "^image_size: it has no meaning for texts"),
        (good, {"target": "y"}, "^target: "),
    ]

    for path, options, message in cases:
        with pytest.raises(UsageError) as error:
            add(tmp_path, path, **options)
        assert re.search(message, str(error.value)), f"{message}: {error.value}"
        assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(KINGS * 30)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EnvironmentFailure, match=r"package tokenizers, .*pip install 'open_prune\[text\]'"):
        add(tmp_path, tmp_path / "a.txt", vocabulary=300)


def test_tokens_are_stored_in_the_smallest_type(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(KINGS * 30)
    add(tmp_path, tmp_path / "a.txt", "narrow")
    add(tmp_path, tmp_path / "a.txt", "wide", vocabulary=260)

    types = [load_tensors(name, "train", tmp_path / "datasets")["tokens"].numpy().dtype for name in ("narrow", "wide")]

    assert types == [np.uint8, np.uint16]


def test_a_text_that_the_tokenizer_has_no_tokens_for_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b\n" * 20)
    for name, model in {
        "unigram": models.Unigram([("a", -1.0)]),
        "words": models.WordLevel({"a": 0}, unk_token="[UNK]"),
    }.items():
        Tokenizer(model).save(str(tmp_path / f"{name}.json"))

        with pytest.raises(UsageError, match=rf"{name}\.json cannot encode the text: (?i:.*unk)") as raised:
            add(tmp_path, tmp_path / "a.txt", tokenizer=str(tmp_path / f"{name}.json"))

        assert raised.value.hparams == ("tokenizer",)
