"""Loading a user's files, their entries in registries, and their effect on addresses."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from foundations import registry
from foundations.description.address import MAIN, Location
from foundations.description.desc import check_record
from foundations.description.hparams import ALWAYS_WRITTEN, Hparams, help_of, hparam
from foundations.errors import DamagedError, UsageError
from foundations.plugins.plugins import check_loaded, load_plugins
from foundations.registry import Registered, Registry, loaded_plugins, plugins_of
from tests.foundations.toy_descriptions import ToyDesc


@dataclass(frozen=True, kw_only=True, eq=False)
class Toy(Registered):
    hparams: type[Hparams] | None = None
    desc: type[Any] | None = None


BALL = Toy(spelling="ball")
SNIP = Toy(spelling="snipN", pattern=r"snip[1-9]\d*", examples=("snip10",))
HEAD = "from tests.foundations.test_plugins import BALL, Toy, ToyDesc\n"
KITE = f"{HEAD}KITE = Toy(spelling='kite')\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A function that writes a file, by name and content. After a test, its plug-ins are unloaded."""
    monkeypatch.setattr(registry, "_PLUGINS", {})

    def written(name: str, content: str, folder: str = "own") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    yield written
    for name in [name for name in sys.modules if name.startswith("open_prune plug-in ")]:
        del sys.modules[name]


def toys() -> Registry[Toy]:
    made = Registry(Toy, "toy", ())
    made.register(sys.modules[__name__])
    return made


def test_a_registry_takes_what_a_plug_in_declares_after_its_own_also_when_it_was_used_before(write: Write) -> None:
    known = toys()
    assert "kite" not in known
    path = write("my_kite.py", KITE)

    load_plugins([path])

    assert known.spellings() == ["ball", "snipN", "kite"]
    plugin = known.find("kite").plugin
    assert plugin is not None
    assert (plugin.name, plugin.path) == ("my_kite", path)
    assert plugin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_a_plug_in_only_imports_stays_without_plug_in(write: Write) -> None:
    load_plugins([write("my_kite.py", KITE)])

    assert toys().find("ball").plugin is None


def test_loading_a_file_again_changes_nothing(write: Write) -> None:
    path = write("my_kite.py", KITE)
    load_plugins([path, path])
    known = toys()
    kite = known.find("kite")

    load_plugins([path, write("my_kite.py", KITE, folder="a copy")])

    assert known.find("kite") is kite
    assert len(loaded_plugins()) == 1


def test_a_plug_in_may_be_called_like_a_module_and_does_not_take_its_place(write: Write) -> None:
    load_plugins([write("random.py", KITE), write("torch.py", KITE.replace("kite", "top"))])

    import random

    assert random.random() < 1
    assert toys().spellings()[-2:] == ["kite", "top"]


def test_classes_of_a_plug_in_have_their_help(write: Write) -> None:
    content = f'''from __future__ import annotations
from dataclasses import dataclass
from foundations.description.hparams import Hparams, hparam
{HEAD}
@dataclass(frozen=True, kw_only=True)
class KiteHparams(Hparams):
    string: float = hparam(3.0)
    """How long
    the string is."""

KITE = Toy(spelling="kite", hparams=KiteHparams)
'''
    load_plugins([write("my_kite.py", content)])

    group = toys().find("kite").hparams

    assert group is not None
    assert help_of(group) == {"string": "How long the string is."}
    assert group(string=1).normalized(5).values() == {"string": 1.0}  # type: ignore[call-arg]


MISTAKES = {
    "it declares nothing": ("SPELLING = 'kite'\n", "declares nothing, such as a Method"),
    "it raises": (f"{KITE}\nKITE.no_such_thing\n", "line 4: AttributeError: 'Toy' object has no attribute"),
    "code that it calls raises": ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError: Expecting"),
    "it is not Python": ("x = 1\ny = = 2\n", "line 2: SyntaxError: invalid syntax"),
    "it ends the process": ("import sys\nsys.exit(1)\n", "line 2: SystemExit: 1"),
    "its pattern is not valid": (f"{HEAD}TOY = Toy(spelling='kite', pattern='(')\n", "the pattern of 'kite' is not"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_file_that_cannot_be_used_is_refused_and_not_loaded(write: Write, mistake: str) -> None:
    content, words = MISTAKES[mistake]
    path = write("my_kite.py", content)

    with pytest.raises(UsageError) as refusal:
        load_plugins([path])

    assert refusal.value.hparams == ("plugin",)
    assert str(path) in refusal.value.reason
    assert words in refusal.value.reason
    assert loaded_plugins() == []
    assert "open_prune plug-in my_kite" not in sys.modules

    path.write_text(KITE)
    load_plugins([path])
    assert "kite" in toys()


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py cannot be read: No such file"):
        load_plugins([tmp_path / "nowhere.py"])


def test_two_files_of_one_name_are_refused(write: Write) -> None:
    load_plugins([write("my_kite.py", KITE)])

    with pytest.raises(UsageError, match="have the same name; rename one of them"):
        load_plugins([write("my_kite.py", f"{KITE}# other\n", folder="others")])


def test_a_file_that_changes_after_it_was_loaded_is_refused(write: Write) -> None:
    load_plugins([write("my_kite.py", KITE)])

    with pytest.raises(UsageError, match="has changed since it was loaded"):
        load_plugins([write("my_kite.py", f"{KITE}# changed\n")])


@pytest.mark.parametrize(
    ("declared", "taken"),
    [
        ("spelling='ball'", "ball"),
        ("spelling='snipN', pattern='other'", "snipN"),
        ("spelling='snip3'", "snip3"),
        ("spelling='kite', pattern='kite.*|snip4', examples=('kite3', 'snip4')", "snip4"),
        ("spelling='any', pattern='snip1.*'", "snip10"),
    ],
)
def test_an_entry_that_shares_a_name_with_another_is_refused_at_every_look_up(
    write: Write, declared: str, taken: str
) -> None:
    load_plugins([write("my_toy.py", f"{HEAD}FIRST = Toy(spelling='first')\nTOY = Toy({declared})\n")])
    known = toys()

    for _ in range(2):
        with pytest.raises(UsageError, match=rf"my_toy\.py declares .*, but '{taken}' is already a name of") as refusal:
            known.find("first")
        assert refusal.value.hparams == ("plugin",)


TOYS = toys()


@dataclass(frozen=True, kw_only=True)
class PlayHparams(Hparams):
    toy: str = hparam("ball", elided=ALWAYS_WRITTEN, choices=TOYS)
    second: str | None = hparam(None, choices=TOYS)


@dataclass(frozen=True, kw_only=True)
class PlayDesc(ToyDesc):
    kind: ClassVar[str] = "play"
    play: PlayHparams = field(default_factory=PlayHparams)

    def location(self, replicate: int) -> Location:
        return Location(f"train_{self.digest}", replicate, MAIN)


@pytest.fixture
def kite(write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plug-in that is loaded and declares `kite`, which the registry of PlayHparams forgets afterwards."""
    monkeypatch.setattr(TOYS, "_entries", list(TOYS))
    monkeypatch.setattr(TOYS, "_found", {})
    monkeypatch.setattr(TOYS, "_taken", set())
    path = write("my_kite.py", KITE)
    load_plugins([path])
    return path


def play(**values: Any) -> PlayDesc:
    return PlayDesc(play=PlayHparams(**values))


@pytest.mark.parametrize("values", [{"toy": "kite"}, {"second": "kite"}, {"toy": "kite", "second": "kite"}])
def test_an_address_has_the_plug_in_of_each_name(kite: Path, values: dict[str, str]) -> None:
    digest = hashlib.sha256(kite.read_bytes()).hexdigest()

    assert play(**values).canonical["plugins"] == {"my_kite": digest}


@pytest.mark.usefixtures("kite")
def test_a_plug_in_that_a_description_does_not_use_leaves_its_address() -> None:
    with_plugin = play(toy="snip3")
    assert "plugins" not in with_plugin.record()

    registry._PLUGINS.clear()

    assert with_plugin.digest == play(toy="snip3").digest


def test_a_description_whose_class_is_in_a_plug_in_has_it_in_its_address(write: Write) -> None:
    content = f"{HEAD}class Ours(ToyDesc):\n    kind = 'ours'\nOURS = Toy(spelling='ours', desc=Ours)\n"
    load_plugins([write("my_kind.py", content)])
    kind: Any = toys().find("ours").desc

    assert list(kind().canonical["plugins"]) == ["my_kind"]
    assert "plugins" not in ToyDesc().canonical


def test_a_record_says_where_the_plug_in_was_and_the_address_does_not(kite: Path, tmp_path: Path) -> None:
    record = play(toy="kite").record()
    folder = play(toy="kite").location(1).under(tmp_path)

    assert record["plugins"]["my_kite"]["path"] == str(kite)
    assert str(kite) not in str(record["canonical"])
    check_record(record, folder)
    record["plugins"]["my_kite"]["path"] = "/elsewhere/my_kite.py"
    check_record(record, folder)
    record["plugins"]["my_kite"]["sha256"] = "0" * 64
    with pytest.raises(DamagedError):
        check_record(record, folder)


def test_a_record_is_usable_where_its_plug_ins_are_loaded_in_their_versions(kite: Path, write: Write) -> None:
    needed = plugins_of(play(toy="kite").record())
    check_loaded(needed, "the run")

    registry._PLUGINS.clear()
    digits = hashlib.sha256(kite.read_bytes()).hexdigest()[:12]
    with pytest.raises(UsageError, match=rf"the run needs the plug-in .*my_kite\.py.*{digits}.*, which is not loaded"):
        check_loaded(needed, "the run")

    load_plugins([write("my_kite.py", f"{KITE}# changed\n")])
    with pytest.raises(UsageError, match=rf"{digits}.*, but .*my_kite\.py is another version"):
        check_loaded(needed, "the run")


def test_a_plug_in_imports_modules_that_lie_beside_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    write("names_of_toys_1.py", "KITE = 'kite'\n")

    load_plugins([write("my_kite.py", f"from names_of_toys_1 import KITE as NAME\n{HEAD}KITE = Toy(spelling=NAME)\n")])

    assert "kite" in toys()


def test_two_plug_ins_with_different_modules_of_one_name_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("kite", "yoyo"):
        write("names_of_toys_2.py", f"NAME = '{name}'\n", folder=name)
        write(f"my_{name}.py", f"from names_of_toys_2 import NAME\n{HEAD}TOY = Toy(spelling=NAME)\n", folder=name)
    paths = [write("x", "", folder=name).parent / f"my_{name}.py" for name in ("kite", "yoyo")]

    load_plugins(paths[:1])
    with pytest.raises(UsageError, match=r"names_of_toys_2\.py have the same name, and two plug-ins import them"):
        load_plugins(paths[1:])
