"""Every exercise: the solution passes, each typical mistake fails by its name, the stub is not attempted."""

import ast
import importlib
import inspect
import json
import pkgutil
import re

import pytest

import iqa_exercises as exercises
from lesson.check import CheckFailed
from test_notebooks import NOTEBOOKS, stamp

MODULES = [module.name for module in pkgutil.iter_modules(exercises.__path__)]
TASKS = {number: task for name in MODULES
         for number, task in importlib.import_module(f"iqa_exercises.{name}").EXERCISES.items()}
WRITE = [number for number, task in TASKS.items() if isinstance(task, exercises.Exercise)]
CHOOSE = [number for number, task in TASKS.items() if isinstance(task, exercises.Choice)]
MEASURE = [number for number, task in TASKS.items() if isinstance(task, exercises.Number)]


def notebook_of(number: str) -> list[str]:
    """Sources of the code cells of the notebook that an exercise belongs to."""
    path = next(path for path in NOTEBOOKS if path.name.startswith(number.split(".")[0]))
    return ["".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def run(number: str, text: str) -> None:
    """Run a cell with no names but those that its notebook imports."""
    names: dict = {}
    for source in notebook_of(number):
        imports = [line for line in re.sub(r"\(\n.*?\)", lambda m: m[0].replace("\n", " "), source, flags=re.S).splitlines()
                   if re.match(r"(import|from) ", line)]
        exec("\n".join(imports), names)
    exec(text, names)


@pytest.mark.parametrize("number", WRITE)
def test_solution_passes_and_stub_is_not_attempted(number, capsys):
    run(number, exercises.cell(number, "solution"))
    assert capsys.readouterr().out == f"✓ {number} solved\n"
    run(number, exercises.cell(number))
    stub, task = exercises.cell(number), exercises.find(number)
    assert capsys.readouterr().out == f"○ {number} {'the bug is still there' if task.start else 'not attempted'}\n"
    asked, given = (ast.parse(text).body[0] for text in (stub, inspect.getsource(task.solution)))
    for part in ("name", "args", "returns"):  # the whole signature, annotations included
        assert ast.dump(ast.Module([getattr(asked, part)], [])) == ast.dump(ast.Module([getattr(given, part)], [])), part
    assert task.start or "return" not in stub.split('"""')[-1]
    assert inspect.getdoc(task.solution) and len(task.mistakes) >= (1 if task.start else 2)


@pytest.mark.parametrize("number, mistake", [(n, m) for n in WRITE for m in TASKS[n].mistakes],
                         ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_typical_mistake_is_named(number, mistake, capsys):
    with pytest.raises(CheckFailed) as failed:
        run(number, exercises.cell(number, mistake))
    assert " ".join(inspect.getdoc(mistake).split()) in str(failed.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", CHOOSE)
def test_choices(number, capsys):
    task = TASKS[number]
    run(number, exercises.cell(number, "solution"))
    assert capsys.readouterr().out == f"✓ {number} solved\n"
    run(number, exercises.cell(number))
    assert capsys.readouterr().out == f"○ {number} not attempted\n"
    assert len(task.hints) >= 2 and task.right not in task.hints
    for letter, hint in task.hints.items():
        with pytest.raises(CheckFailed, match=re.escape(hint)):
            exercises.check(number, letter)
    with pytest.raises(CheckFailed, match="Choose one of"):
        exercises.check(number, "z")


@pytest.mark.parametrize("number", MEASURE)
def test_numbers(number, capsys):
    task = TASKS[number]
    run(number, exercises.cell(number, "solution"))
    assert capsys.readouterr().out == f"✓ {number} solved\n"
    run(number, exercises.cell(number))
    assert capsys.readouterr().out == f"○ {number} not attempted\n"
    assert task.mistakes
    for mistake in task.mistakes:
        with pytest.raises(CheckFailed, match=re.escape(" ".join(inspect.getdoc(mistake).split()))):
            exercises.check(number, mistake())
    with pytest.raises(CheckFailed, match="type the number that you see"):
        exercises.check(number, task.measured() + 100)


def test_every_notebook_before_the_table_has_its_exercises():
    for path in NOTEBOOKS:
        prefix = path.name[:2]
        if prefix >= "50":
            continue
        mine = {n: task for n, task in TASKS.items() if n.startswith(f"{prefix}.")}
        assert [*mine] == [f"{prefix}.{i}" for i in range(1, len(mine) + 1)], path.name
        kinds = [isinstance(task, exercises.Exercise) for task in mine.values()]
        asked = 0 if prefix == "00" else 2  # an experiment and a question to think about, at the end
        assert len(kinds) >= 3 + asked // 2 and kinds == [True] * (len(kinds) - asked) + [False] * asked
        text = "\n".join(notebook_of(f"{prefix}.1"))
        for number in mine:
            assert exercises.cell(number) in text, f"{path.name}: run python notebooks/stamp.py"


def test_in_the_bug_hunt_symptom_and_hypothesis_stand_before_the_code():
    cells = notebook_of("60.1.1")
    for case in range(1, 11):
        name = TASKS[f"60.{case}.2"].solution.__name__
        symptom = next(i for i, text in enumerate(cells) if text.endswith(f"symptom_{case}(handed[{case}])"))
        hypothesis = cells.index(exercises.cell(f"60.{case}.1"))
        code = cells.index(exercises.cell(f"60.{case}.2"))
        again = next(i for i, text in enumerate(cells) if text.startswith(f"symptom_{case}({name})"))
        assert symptom < hypothesis < code < again, case


@pytest.mark.parametrize("prefix", ["50", "60", "72", "90"])
def test_every_exercise_stands_in_its_notebook(prefix):
    text = "\n".join(notebook_of(f"{prefix}.1"))
    mine = [number for number in TASKS if number.startswith(f"{prefix}.")]
    assert len(mine) >= 6
    for number in mine:
        assert exercises.cell(number) in text, f"{number}: run python notebooks/stamp.py"


def test_solution_notebooks_hold_the_solutions_and_nothing_else_changes(tmp_path):
    stamp.solutions(tmp_path)
    for path in NOTEBOOKS:
        if any(number.startswith(path.name[:2]) for number in TASKS):
            student, solved = (json.loads(file.read_text("utf-8"))["cells"] for file in (path, tmp_path / path.name))
            changed = [b for a, b in zip(student, solved, strict=True) if a["source"] != b["source"]]
            text = "".join("".join(cell["source"]) + "\n" for cell in changed)
            mine = [number for number in TASKS if number.startswith(path.name[:2])]
            assert all(exercises.cell(number, "solution") in text for number in mine)
            assert not any(cell["outputs"] for cell in changed)


def test_a_failure_shows_input_expected_and_found_and_a_list_is_accepted(capsys):
    with pytest.raises(CheckFailed) as failed:
        exercises.check("00.2", lambda rank, true_rank: 7.0)
    assert "Input: shape (6,), [0, 2, 1, 5, ...], " in str(failed.value)
    assert str(failed.value).endswith("Expected: 0.7714. Found: 7.")
    with pytest.raises(CheckFailed, match="Expected: shape .* Found: shape"):
        exercises.check("01.2", lambda x, steps: 3 * x)
    solution = exercises.find("03.1").solution
    exercises.check("03.1", lambda contents, draw: solution(contents, draw).tolist())
    assert capsys.readouterr().out == "✓ 03.1 solved\n"
    with pytest.raises(CheckFailed, match="Expected: 'holds'. Found: 'better'"):
        exercises.check("03.6", lambda wide, narrow, margin: "better")


def test_a_wrong_number_and_a_function_that_stops():
    with pytest.raises(ValueError, match="no exercise '10.9'"):
        exercises.check("10.9", None)
    with pytest.raises(ValueError, match="no exercise '77.1'"):
        exercises.check("77.1", None)
    with pytest.raises(CheckFailed, match="stopped with ZeroDivisionError"):
        exercises.check("10.1", lambda *inputs: 1 / 0)
    with pytest.raises(CheckFailed, match="The shapes are"):
        exercises.check("10.3", lambda y: y)
    with pytest.raises(CheckFailed, match="str; Tensor is asked for"):
        exercises.check("10.3", lambda y: "half")
