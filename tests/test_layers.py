"""The house's rules, held over the syntax trees: imports point down, Ray stays at the top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "factory"
FILES = sorted(PACKAGE.rglob("*.py"))

ROWS = [
    ["spec", "seeds"],
    ["store", "images", "progress", "precision"],
    ["hub"],
    ["records", "plan", "models", "mapping", "prompts", "captions", "text_schedulers", "pages"],
    ["adapters"],
    ["shards"],
    ["sources"],
    ["vision", "metrics"],
    ["inputs"],
    ["resolve"],
    ["diffusion"],
    ["cluster", "cli"],
    [
        "fit",
        "adapt",
        "write_prompts",
        "generate",
        "verify",
        "evaluate",
        "classify",
        "publish",
    ],
    ["tune", "reproduce"],
]
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
HEAVY = {"torch", "ray", "diffusers", "transformers", "accelerate", "datasets", "pandas"}


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def house_name(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_only_from_rows_above_it(path):
    here = house_name(path)
    for module in imported_modules(path):
        if module.startswith("factory."):
            there = module.split(".")[1]
            assert there == here or ROW_OF[there] < ROW_OF[here], f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_ray_is_imported_only_by_run_conductors_and_cluster(path):
    uses_ray = any(module.split(".")[0] == "ray" for module in imported_modules(path))
    allowed = path.name == "run.py" or house_name(path) in {"cluster", "tune", "reproduce"}
    assert allowed or not uses_ray


@pytest.mark.parametrize("job", sorted(path.stem for path in (PROJECT / "jobs").glob("*.py")))
def test_job_refuses_an_unknown_key_without_heavy_imports(job, tmp_path):
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['{job}.py', 'no_such_key=1', '--root', {str(tmp_path / 'root')!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(PROJECT / 'jobs' / f'{job}.py')!r}, run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    print('code', stop.code)\n"
        f"print('heavy', sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines() == ["code 2", "heavy []"]
    assert "no_such_key" in done.stderr
    assert not list(tmp_path.iterdir())
