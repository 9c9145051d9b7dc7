"""Tickets: exported, imported, branched."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from branches.imported.tickets import export_ticket, import_ticket
from branches.kinds import load_desc
from branches.openlth.files import export_openlth, import_openlth
from foundations.description.step import Step
from foundations.errors import DamagedError, EnvironmentFailure, UsageError
from foundations.storage.run import Run
from foundations.storage.tensor_files import read, to_bytes
from tests.branches.small_branches import branch, mask_of
from tests.training.small_runs import context, run_of, train_desc
from training.context import Context
from training.jobs.compute import complete, ensure_states

START = train_desc().start


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[Context, Run]:
    """A context, and in it a pruned run."""
    place = context(tmp_path_factory.mktemp("runs"), digits)
    return place, branch(place, "oneshot", density=0.2).run


def same(state: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return set(state) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in state.items())


def test_a_ticket_comes_back_bit_for_bit_and_serves_as_a_parent(
    pruned: tuple[Context, Run], tmp_path: Path, digits: Path
) -> None:
    _place, run = pruned
    away = context(tmp_path / "away", digits)
    export_ticket(run, None, tmp_path / "ticket.safetensors")

    imported = import_ticket(tmp_path / "ticket.safetensors", away)

    assert same(imported.load_state(START), run.load_state(train_desc().end))
    assert mask_of(imported) == mask_of(run)
    child = branch(away, "oneshot", imported, density=0.1, prune_step="0it")
    assert child.manifest.results["density"] == pytest.approx(0.1, abs=1e-3)
    parents = mask_of(imported)
    assert mask_of(child.run).intersection(parents).kept == parents.total // 10


def test_importing_twice_finds_the_same_run(pruned: tuple[Context, Run], tmp_path: Path, digits: Path) -> None:
    _, run = pruned
    export_ticket(run, None, tmp_path / "ticket.safetensors")
    away = context(tmp_path / "away", digits)

    first, second = (import_ticket(tmp_path / "ticket.safetensors", away) for _ in range(2))

    assert first.location == second.location


def test_a_ticket_carries_its_lineage(pruned: tuple[Context, Run], tmp_path: Path) -> None:
    place, run = pruned
    child = branch(place, "oneshot", run, density=0.1, prune_step="0it").run
    export_ticket(child, None, tmp_path / "ticket.safetensors")

    facts = read(tmp_path / "ticket.safetensors", "")[1]

    assert set(facts["lineage"]["runs"]) == {str(run_of(train_desc(), place)), str(run), str(child)}
    assert facts["lineage"]["main"]["model"]["model_name"] == "digits_lenet_16"


def test_a_dense_export_is_a_plain_state_dict_with_zeros(pruned: tuple[Context, Run], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    _, run = pruned
    export_ticket(run, START, tmp_path / "dense.safetensors", dense=True)

    state = load_file(tmp_path / "dense.safetensors")

    mask = mask_of(run)
    assert all(torch.equal(state[name] != 0, mask[name]) for name in mask)
    assert same(state, run.load_state(START))


def test_openlths_files_are_written_in_its_form(pruned: tuple[Context, Run], tmp_path: Path) -> None:
    _, run = pruned

    export_openlth(run, None, tmp_path / "openlth")

    state = torch.load(tmp_path / "openlth" / "model_ep3_it0.pth", weights_only=True)
    mask = torch.load(tmp_path / "openlth" / "mask.pth", weights_only=True)
    assert same(dict(sorted(state.items())), dict(sorted(run.load_state(train_desc().end).items())))
    assert set(mask) == {"fc_layers.0.weight", "fc.weight"}
    assert all(tensor.dtype == torch.int32 and tensor.shape == state[name].shape for name, tensor in mask.items())


def test_a_directory_of_openlth_is_imported_with_all_its_states(tmp_path: Path, digits: Path) -> None:
    place = context(tmp_path / "runs", digits)
    complete(train_desc(), place)
    run = run_of(train_desc(), place)
    folder = tmp_path / "train_71bc92a970b64a76d7ab7681764b0021" / "replicate_1" / "main"
    for step in (START, train_desc().end):
        export_openlth(run, step, folder)
    away = context(tmp_path / "away", digits)

    imported = import_openlth(folder, train_desc(), away)

    assert same(imported.load_state(START), run.load_state(START))
    assert same(imported.load_state(train_desc().end), run.load_state(train_desc().end))
    assert not imported.has_mask()
    rewound = branch(away, "lottery_rewind", imported, density=0.2)
    ours = branch(place, "lottery_rewind", density=0.2)
    assert mask_of(rewound.run) == mask_of(ours.run)


def test_a_directory_without_openlths_states_says_what_is_looked_for(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="model_ep<E>_it<I>.pth"):
        import_openlth(tmp_path, train_desc(), context(tmp_path, digits))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (str(self.path), "w")


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, digits: Path) -> None:
    (tmp_path / "model_ep0_it0.pth").write_bytes(pickle.dumps({"weight": Evil(tmp_path / "executed")}))

    with pytest.raises(DamagedError, match="cannot be read as OpenLTH's tensors"):
        import_openlth(tmp_path, train_desc(), context(tmp_path / "runs", digits))

    assert not (tmp_path / "executed").exists()


def test_a_ticket_of_another_model_is_refused(pruned: tuple[Context, Run], tmp_path: Path, digits: Path) -> None:
    _, run = pruned
    export_openlth(run, None, tmp_path / "openlth")

    with pytest.raises(DamagedError, match="not one of this model"):
        import_openlth(tmp_path / "openlth", train_desc(model_name="digits_lenet_20"), context(tmp_path, digits))


def test_a_state_that_an_import_lacks_cannot_be_made(pruned: tuple[Context, Run], tmp_path: Path, digits: Path) -> None:
    _, run = pruned
    export_ticket(run, None, tmp_path / "ticket.safetensors")
    away = context(tmp_path / "away", digits)
    imported = import_ticket(tmp_path / "ticket.safetensors", away)
    desc = load_desc(imported)

    with pytest.raises(EnvironmentFailure, match="was imported"):
        ensure_states(desc, away, [Step(3, 6)])


def test_an_imported_ticket_can_be_exported_again(pruned: tuple[Context, Run], tmp_path: Path, digits: Path) -> None:
    _, run = pruned
    export_ticket(run, None, tmp_path / "first.safetensors")
    imported = import_ticket(tmp_path / "first.safetensors", context(tmp_path / "away", digits))

    export_ticket(imported, None, tmp_path / "second.safetensors")

    again = import_ticket(tmp_path / "second.safetensors", context(tmp_path / "farther", digits))
    assert same(again.load_state(START), run.load_state(train_desc().end))


def changed_ticket(run: Run, path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    """Export a run, and write its ticket again with something else in it."""
    export_ticket(run, None, path)
    tensors, facts = read(path, "")
    change(tensors, facts)
    path.write_bytes(to_bytes(tensors, facts))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda _, facts: facts.update(lineage=True),
        lambda _, facts: facts.update(lineage={"main": []}),
        lambda _, facts: facts["lineage"].update(plugins=[1]),
        lambda _, facts: facts["lineage"]["main"].update(training={"lr": 10**400}),
        lambda _, facts: facts["mask"].update(shapes={"fc.weight": [10**9, 10**9]}),
        lambda _, facts: facts["mask"].update(shapes={"fc.weight": [-1, -1]}),
    ],
)
def test_a_ticket_of_another_form_is_refused_by_its_name(
    pruned: tuple[Context, Run], tmp_path: Path, digits: Path, change: Callable[..., object]
) -> None:
    path = changed_ticket(pruned[1], tmp_path / "ticket.safetensors", change)

    with pytest.raises(DamagedError, match=r"ticket\.safetensors"):
        import_ticket(path, context(tmp_path / "away", digits))


@pytest.mark.parametrize("value", [1.0, math.nan, -math.inf])
def test_a_ticket_whose_weights_are_outside_of_its_mask_or_no_numbers_is_refused(
    pruned: tuple[Context, Run], tmp_path: Path, digits: Path, value: float
) -> None:
    def change(tensors: dict[str, Any], _: object) -> None:
        tensors["weights.fc.weight"][~mask_of(pruned[1])["fc.weight"]] = value

    path = changed_ticket(pruned[1], tmp_path / "ticket.safetensors", change)

    with pytest.raises(DamagedError, match=r"ticket\.safetensors: 'fc\.weight' at 0it has"):
        import_ticket(path, context(tmp_path / "away", digits))


def test_a_state_from_before_its_mask_was_reached_is_exported_without_it_only(tmp_path: Path, digits: Path) -> None:
    gmp = train_desc(technique="gmp", gmp_end="12it", gmp_frequency="3it", gmp_density=0.1)
    run = complete(gmp, context(tmp_path / "runs", digits)).run

    with pytest.raises(UsageError, match="--dense"):
        export_ticket(run, START, tmp_path / "ticket.safetensors")

    export_ticket(run, START, tmp_path / "dense.safetensors", dense=True)
    export_ticket(run, None, tmp_path / "ticket.safetensors")


def test_openlths_mask_is_applied_to_its_states_as_openlth_does(
    pruned: tuple[Context, Run], tmp_path: Path, digits: Path
) -> None:
    _, run = pruned
    export_openlth(run, None, tmp_path / "openlth")
    path = tmp_path / "openlth" / "model_ep3_it0.pth"
    left = {name: tensor + 1 for name, tensor in torch.load(path, weights_only=True).items()}
    torch.save(left, path)  # as its optimizer leaves them

    imported = import_openlth(tmp_path / "openlth", train_desc(), context(tmp_path / "away", digits))

    state, mask = imported.load_state(train_desc().end), mask_of(run)
    assert all(torch.equal(state[name], left[name] * mask[name]) for name in mask)


def test_a_mask_of_openlths_with_other_numbers_is_refused_by_its_name(
    pruned: tuple[Context, Run], tmp_path: Path, digits: Path
) -> None:
    export_openlth(pruned[1], None, tmp_path / "openlth")
    torch.save({"fc.weight": torch.full((10, 16), 3)}, tmp_path / "openlth" / "mask.pth")

    with pytest.raises(DamagedError, match=r"mask\.pth"):
        import_openlth(tmp_path / "openlth", train_desc(), context(tmp_path / "away", digits))
