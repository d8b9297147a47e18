"""The shape of the project, read from its source text: who may import whom, and what dvc.yaml must name."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from src import params
from src.fingerprint import closure

ROOT = Path(__file__).parents[1]
STAGES = ("prepare", "train", "validate", "evaluate")
SOURCES = sorted(str(path.relative_to(ROOT)) for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py"))
DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]

# Data goes one way: a module imports from its own layer and from those above it, never from one below.
LAYERS = [
    ["errors", "parent", "paths"],
    ["augment", "cli", "files", "fused", "locks", "losses", "memory", "metrics", "optimizers", "plots"],
    ["journal", "mistakes"],
    ["sections"],
    ["params", "params_table", "data/schema", "data/batches"],
    ["data/*", "models", "device", "checkpoints", "stacked"],
    [
        "loop",
        "fingerprint",
        "footprint",
        "graph",
        "model_file",
        "progress",
        "tracking/history",
        "tracking/lineage",
        "tracking/outbox",
        "tracking/store",
    ],
    ["bottleneck", "lanes", "saving"],
    ["profile", "training", "serving", "tracking/*"],
    ["evaluation"],
    ["export", "reuse", "compare/*", "tune/*"],
    ["doctor/*"],
]
# These run on a machine that has torch alone.
TORCH_ONLY = [
    "augment",
    "loop",
    "lanes",
    "stacked",
    "graph",
    "checkpoints",
    "models",
    "losses",
    "metrics",
    "fused",
    "optimizers",
    "device",
    "data/batches",
]


@cache
def imports(name: str) -> set[str]:
    """Top-level names of the outside modules, and paths of the own ones, that a file imports anywhere in it."""
    own = {path for path in closure([name]) if path != name and path in direct(name)}
    return {module.split(".")[0] for module in modules(name)} - {"src", "stages"} | own


@cache
def modules(name: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def direct(name: str) -> set[str]:
    return {module.replace(".", "/") + ".py" for module in modules(name)}


def layer(name: str) -> int:
    """The layer of a file in src: of its own entry, else of its folder's."""
    module = name.removeprefix("src/").removesuffix(".py")
    for wanted in (module, f"{Path(module).parent}/*"):
        for number, entries in enumerate(LAYERS):
            if wanted in entries:
                return number
    raise AssertionError(f"{name} has no layer: add it to LAYERS")


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("src/") and (ROOT / name).stat().st_size])
def test_no_arrow_points_back(name):
    back = [other for other in imports(name) if other.endswith(".py") and layer(other) > layer(name)]
    assert back == []


@pytest.mark.parametrize("name", SOURCES)
def test_imports_are_spelled_in_full(name):
    """What the other tests, and dvc.yaml, know of imports is read from them: a relative one would not be seen."""
    tree = ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
    assert [node.lineno for node in tree if isinstance(node, ast.ImportFrom) and node.level] == []
    assert not name.endswith("__init__.py") or (ROOT / name).stat().st_size == 0  # nor code that nobody names


@pytest.mark.parametrize("module", TORCH_ONLY)
def test_it_needs_nothing_but_torch(module):
    for name in closure([f"src/{module}.py"]):
        outside = {other for other in imports(name) if not other.endswith(".py")}
        # torch itself brings numpy and filelock
        assert outside - set(sys.stdlib_module_names) - {"torch", "numpy", "filelock"} == set(), name


@pytest.mark.parametrize(
    ("library", "home"), [("mlflow", r"src/(tracking/\w+|serving)\.py"), ("optuna", r"src/tune/\w+\.py")]
)
def test_a_library_has_one_home(library, home):
    users = [name for name in SOURCES if library in imports(name)]
    assert users
    assert [name for name in users if not re.fullmatch(home, name)] == []


def watched(stage: str) -> set[str]:
    """The code among a stage's deps: of a folder all that DVC does not ignore."""
    ignored = (ROOT / ".dvcignore").read_text(encoding="utf-8").splitlines()
    seen = [
        name for name in SOURCES if not any(f"/{name}".startswith(entry) for entry in ignored if entry[:5] == "/src/")
    ]
    deps = DVC[stage]["deps"]
    return {name for name in seen if any(name == dep or name.startswith(f"{dep}/") for dep in deps)}


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_watches_all_the_code_that_a_stage_imports(stage):
    assert set(closure([f"stages/{stage}.py"])) - watched(stage) == set()


def test_dvc_watches_no_more_code_than_the_stages_import():
    used = set(closure([f"stages/{stage}.py" for stage in STAGES]))
    empty = {name for name in SOURCES if not (ROOT / name).stat().st_size}
    assert set().union(*(watched(stage) for stage in STAGES)) - empty == used
    beside = {name for name in watched("prepare") if not name.startswith("src/data/")}
    assert beside == {name for name in closure(["stages/prepare.py"]) if not name.startswith("src/data/")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_script_and_its_params_are_known(stage):
    assert DVC[stage]["cmd"].endswith(f"-m stages.{stage}")
    known = {key for key, _ in params.fields()}
    known |= {key.rpartition(".")[0] for key in known} | {key.partition(".")[0] for key in known}
    assert [key for key in DVC[stage]["params"] if key not in known] == []


def test_only_evaluate_opens_the_test_split():
    readers = [stage for stage in DVC if "data/prepared/test.safetensors" in DVC[stage]["deps"]]
    assert readers == ["evaluate"]
    naming = [name for name in SOURCES if re.search(r"load\(.test.", (ROOT / name).read_text(encoding="utf-8"))]
    assert naming == ["stages/evaluate.py"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_script_is_short(stage):
    assert len((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.parametrize("name", SOURCES)
def test_files_and_functions_are_short(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= 60] == []


def test_the_training_loop_is_seen_whole():
    tree = ast.parse((ROOT / "src/loop.py").read_text(encoding="utf-8"))
    epoch = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "train_epoch")
    assert epoch.end_lineno - epoch.lineno < 25


def test_the_tree_in_the_readme_is_the_tree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"## The tree\n+```\n(.*?)```", readme, re.DOTALL)
    assert tree, "README.md has no tree"
    listed = [line.split()[0] for line in tree[1].splitlines()]
    assert all(len(line.split(maxsplit=1)) == 2 for line in tree[1].splitlines())
    assert [name for name in listed if not (ROOT / name).exists()] == []
    sources = {name for name in SOURCES if (ROOT / name).stat().st_size}
    assert {name for name in listed if name.startswith(("src/", "stages/"))} == sources
    top = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith((".", "dvc.lock"))}
    assert top - {"mlflow.db"} <= set(listed)
