from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from analysis.sharing.graph import extra_buffers, graph_of
from analysis.sharing.load_published import network
from analysis.sharing.published import LOADER, REST
from foundations.description.address import Location
from foundations.errors import UsageError
from foundations.inputs import Inputs
from foundations.storage.run import MANIFEST, Run
from foundations.storage.store import all_runs
from foundations.storage.upkeep import verify
from models.build import construct
from models.hparams import ModelHparams
from tests import interpreter
from tests.analysis.sharing.conftest import PRUNED
from tests.cli.terminal import SHORT, Terminal
from tests.training.test_tasks import PLUGIN, flags

RESNET = ("branch", "train", "oneshot", "--default_hparams=digits_resnet_8", "--training_steps=10it")


def in_another_process(script: Path, *arguments: str) -> str:
    """Run a script where open_prune cannot be imported; return its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    check = (
        "import importlib.util as u, runpy, sys; assert not u.find_spec('open_prune') and not u.find_spec('pruning')"
    )
    code = f"{check}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = interpreter.run(["-I", "-c", code, script, *arguments], Path("/"), environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("run", [PRUNED, (*RESNET, "--strategy=synflow")], ids=["lenet", "resnet"])
def test_torch_and_safetensors_alone_reach_the_accuracy_of_the_manifest(
    shared_root: Terminal, tmp_path: Path, run: tuple[str, ...]
) -> None:
    folder, own = tmp_path / "model", shared_root.where(*run)
    result = shared_root.run("publish", str(folder), own.name, "--license=MIT")
    assert result.code == 0, result.err
    manifest = json.loads((own / "manifest.json").read_text())
    test = shared_root.datasets / "digits" / "test.safetensors"
    assert float(in_another_process(folder / "load.py", str(test))) == manifest["results"]["test_accuracy"]
    config = json.loads((folder / "config.json").read_text())
    weights, mask = load_file(folder / "model.safetensors"), load_file(folder / "mask.safetensors")
    assert {name: list(tensor.shape) for name, tensor in weights.items()} == {
        name: layer["shape"] for name, layer in config["layers"].items()
    }
    kept = sum(int(bits.sum()) for bits in mask.values()) / sum(bits.numel() for bits in mask.values())
    assert kept == pytest.approx(manifest["results"]["density"])
    assert all(not weights[name][~bits].any() for name, bits in mask.items())


def test_the_card_states_the_facts_and_shows_the_code(shared_root: Terminal, tmp_path: Path) -> None:
    own = shared_root.where(*PRUNED)
    assert "no license" in shared_root.run("publish", str(tmp_path / "bare"), own.name).out
    assert shared_root.run("publish", str(tmp_path / "model"), own.name, "--license=MIT").code == 0
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert LOADER.read_text().partition(REST)[0].strip() in card
    assert (tmp_path / "model" / "load.py").read_text() == LOADER.read_text()
    for word in ("digits_lenet_16", "magnitude", "test_accuracy", own.name, "fc.weight", "16 x 64"):
        assert word in card
    assert "license:" not in (tmp_path / "bare" / "README.md").read_text()


def test_a_folder_is_not_overwritten_and_mistakes_are_named(shared_root: Terminal, tmp_path: Path) -> None:
    own, folder = shared_root.where(*PRUNED).name, tmp_path / "full"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    shared_root.run("publish", str(folder), own).assert_is_for_people(2, "not an empty folder")
    shared_root.run("publish", str(tmp_path / "x"), own, "--license=my own!").assert_is_for_people(2, "license")
    shared_root.run("publish", str(tmp_path / "x"), own, "--step=2it").assert_is_for_people(2, "did not keep")
    assert not (tmp_path / "x").exists()
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_run_whose_states_were_left_out_can_be_replayed_to_publish_it(
    shared_root: Terminal, colleague: Terminal, tmp_path: Path
) -> None:
    own = shared_root.where(*PRUNED).name
    assert shared_root.run("share", str(tmp_path / "a.tar"), own).code == 0
    assert colleague.run("import", str(tmp_path / "a.tar")).code == 0
    colleague.run("publish", str(tmp_path / "model"), own).assert_is_for_people(2, "did not keep")
    assert colleague.run("publish", str(tmp_path / "model"), own, "--replay").code == 0
    assert shared_root.run("publish", str(tmp_path / "theirs"), own).code == 0
    one, other = (tmp_path / name / "model.safetensors" for name in ("model", "theirs"))
    assert one.read_bytes() == other.read_bytes()


TASKS = {"rows": "accuracy", "prices": "r2", "tags": "average_precision", "waves": "accuracy", "text": "perplexity"}
TASKS |= {"tagged_images": "average_precision", "reviews": "accuracy"}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A root for runs on datasets of every task."""
    folder = tmp_path_factory.mktemp("tasks")
    return Terminal(folder / "root", folder / "datasets")


@pytest.mark.parametrize("data", TASKS)
def test_a_network_of_any_task_reaches_the_metric_of_its_manifest(tasks: Terminal, tmp_path: Path, data: str) -> None:
    more = ("--stride=4",) if data == "text" else ()
    own = tasks.where("branch", "train", "oneshot", *flags(data, *more), "--strategy=magnitude", "--density=0.5")
    done = tasks.run("branch", "train", "oneshot", *flags(data, *more), "--strategy=magnitude", "--density=0.5")
    assert done.code == 0, done.err
    published = tasks.run("publish", str(tmp_path / "model"), own.name, PLUGIN)
    assert published.code == 0, published.err

    (test,) = tasks.datasets.glob(f"tiny_{data}_*/test.safetensors")
    found = float(in_another_process(tmp_path / "model" / "load.py", str(test)))

    results = json.loads((own / "manifest.json").read_text())["results"]
    assert found == pytest.approx(results[f"test_{TASKS[data]}"], rel=1e-6)
    card = (tmp_path / "model" / "README.md").read_text()
    facts = card.partition("## Results")[0]
    assert ("classes" in facts) == (TASKS[data] == "accuracy") and ("images" in facts) == (data == "tagged_images")
    assert f"prints the {TASKS[data]}" in card


def test_a_task_without_a_known_metric_is_named_and_its_network_can_be_loaded(tasks: Terminal, tmp_path: Path) -> None:
    own = tasks.where("train", *flags("own"))
    assert tasks.run("train", *flags("own")).code == 0
    assert tasks.run("publish", str(tmp_path / "model"), own.parent.parent.name, PLUGIN).code == 0

    (test,) = tasks.datasets.glob("tiny_own_*/test.safetensors")
    done = interpreter.run([tmp_path / "model" / "load.py", test], tmp_path)

    assert done.returncode == 1 and "absolute_regression" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("name, per_token", [("gpt_1_8_2", True), ("gpt_1_8_2", False), ("llama_1_8_2", True)])
def test_the_graph_of_a_language_model_computes_it(tmp_path: Path, name: str, per_token: bool) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    inputs = Inputs((6,), "tokens", 9, 0, per_token)
    model = construct(ModelHparams(model_name=name), 9 if per_token else 3, inputs).eval()
    data = {"inputs": "tokens", "mean": [], "std": []}
    (tmp_path / "config.json").write_text(json.dumps({"graph": graph_of(model, inputs), "dataset": data}))
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors")
    save_file(extra_buffers(model), tmp_path / "buffers.safetensors")
    tokens = torch.randint(0, 9, (3, 6))
    with torch.no_grad():
        expected, found = model(tokens), network(tmp_path)(tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("vit_1_8_4", (3, 32, 32)),
        ("cifar_resnet_20", (3, 32, 32)),
        ("cifar_vgg_11", (3, 32, 32)),
        ("cifar_wideresnet_16_1", (3, 32, 32)),
        ("mnist_lenet_300_100", (1, 28, 28)),
    ],
)
def test_the_graph_computes_the_network(tmp_path: Path, name: str, shape: tuple[int, int, int]) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = construct(ModelHparams(model_name=name), 10, Inputs(shape)).eval()
    data = {"mean": [0.0] * shape[0], "std": [1 / 255] * shape[0]}
    (tmp_path / "config.json").write_text(json.dumps({"graph": graph_of(model, Inputs(shape)), "dataset": data}))
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors")
    images = torch.randint(0, 2, (3, *shape)).to(torch.uint8)
    with torch.no_grad():
        expected, found = model(images.float()), network(tmp_path)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_no_list_of_operators_is_refused() -> None:
    class Branching(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.ones(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * self.scale

    for model in (Branching(), Hidden()):
        with pytest.raises(UsageError, match="not a list"):
            graph_of(model, Inputs((3,)))


def test_a_crate_is_read_by_rocrate(shared_root: Terminal, tmp_path: Path) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate")
    folder, own = tmp_path / "crate", shared_root.where(*PRUNED)
    result = shared_root.run("crate", str(folder), "--where", "status=complete", "--author=Ada", "--states=last")
    assert result.code == 0, result.err
    crate = rocrate.ROCrate(folder)
    assert set(crate.mainEntity.type) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    actions = [entity for entity in crate.contextual_entities if entity.type == "CreateAction"]
    assert len(actions) == 4
    location = "/".join(own.parts[-3:])
    assert (folder / "runs" / location / "metrics.csv").read_bytes() == (own / "metrics.csv").read_bytes()
    assert [path.name for path in (folder / "runs" / location).glob("state_*")] == ["state_ep3_it0.safetensors"]
    strategies = {each["value"] for each in crate.contextual_entities if each.id.startswith("#strategy/")}
    assert {"magnitude", "synflow"} <= strategies
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    described = {entity.id for entity in crate.data_entities}
    assert on_disk - {"ro-crate-metadata.json"} <= described


def test_packed_runs_are_published_and_put_into_crates_like_others(colleague: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("rocrate.rocrate")
    own = colleague.where(*PRUNED)
    assert colleague.run(*PRUNED).code == 0
    for place in ("before", "packed"):
        if place == "packed":
            assert colleague.run("pack", own.name).code == 0 and not own.exists()
        assert colleague.run("publish", str(tmp_path / place / "model"), own.name).code == 0
        assert colleague.run("crate", str(tmp_path / place / "crate"), own.name, "--states=all").code == 0

    def files(place: str) -> dict[str, bytes]:
        folder = tmp_path / place
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    before, packed = files("before"), files("packed")
    assert before.keys() == packed.keys()
    for name in before:
        assert before[name] == packed[name] or name.endswith(("report.html", "ro-crate-metadata.json")), name


def test_a_crate_holds_whole_runs_though_their_states_are_left_out(shared_root: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("rocrate.rocrate")
    own = shared_root.where(*PRUNED)
    assert shared_root.run("crate", str(tmp_path / "crate"), own.name).code == 0

    (run,) = all_runs(tmp_path / "crate" / "runs")

    assert verify(run) == [] and run.manifest() is not None
    assert run.left_out() == ["state_ep0_it0.safetensors", "state_ep3_it0.safetensors"]
    assert run.path(MANIFEST).read_bytes() == (own / MANIFEST).read_bytes()


def test_what_a_run_holds_now_is_shared_published_and_put_into_crates(colleague: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("rocrate.rocrate")
    rewound = ("branch", "train", "lottery_rewind", *SHORT, "--rewind_step=1it", "--density=0.5")
    assert colleague.run("train", *SHORT).code == 0
    assert colleague.run(*rewound).code == 0  # replays the parent, which is complete, for a further state
    own = colleague.where("train", *SHORT)
    name, (state, gone) = own.parent.parent.name, ("state_ep0_it1.safetensors", "state_ep0_it0.safetensors")
    Run(colleague.root, Location.parse("/".join(own.parts[-3:]))).amended(without=[gone])  # type: ignore[arg-type]
    (own / gone).unlink()
    other = Terminal(tmp_path / "other", colleague.datasets)

    assert colleague.run("share", str(tmp_path / "a.tar"), name, "--states=all").code == 0
    assert other.run("import", str(tmp_path / "a.tar")).code == 0
    assert colleague.run("crate", str(tmp_path / "crate"), name, "--states=all").code == 0
    assert colleague.run("publish", str(tmp_path / "model"), name, "--step=1it").code == 0

    for root in (other.root, tmp_path / "crate" / "runs"):
        (run,) = all_runs(root)
        assert verify(run) == [] and run.path(state).read_bytes() == (own / state).read_bytes()
        assert run.left_out() == [gone]
    assert load_file(tmp_path / "model" / "model.safetensors").keys() == load_file(own / state).keys()
    colleague.run("publish", str(tmp_path / "x"), name, "--step=0it").assert_is_for_people(2, "did not keep")


def test_a_crate_is_valid_by_its_profile(shared_root: Terminal, tmp_path: Path) -> None:
    validator = os.environ.get("ROC_VALIDATOR")
    if not validator or shutil.which(validator) is None:
        pytest.skip("ROC_VALIDATOR names no Python with requirements-crate.txt")
    own = shared_root.where(*PRUNED).name
    for number, words in enumerate(((own,), ("--where", "status=complete", "--license=https://spdx.org/licenses/MIT"))):
        folder = tmp_path / str(number)
        assert shared_root.run("crate", str(folder), *words).code == 0
        script = Path(__file__).with_name("validate_crate.py")
        done = subprocess.run([validator, script, folder], capture_output=True, text=True, timeout=300)
        assert done.stdout.splitlines()[-1:] == ["0 faults"], done.stdout + done.stderr
