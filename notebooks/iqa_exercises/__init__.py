"""Exercises of the notebooks: stub, solution and check from one source.

A module `nXX` beside this file holds the exercises of notebook XX: `EXERCISES = {"10.1":
Exercise(...), ...}`. The cell that a student gets is made from the solution by leaving out its body
(`cell`; `python notebooks/stamp.py` writes it into the notebook), the solution notebook by leaving
the body in. A check compares the student's function with the solution on the same inputs. Where they
differ, the check asks which typical mistake gives the student's answer, and names it. The function
that a check returns is the student's, or the solution as long as the stub is untouched: so the
notebook goes on with what the student wrote, and runs for those who only read it.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from lesson.check import CheckFailed, apart


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Args:
        solution: its signature and docstring are what the student gets. It stands alone: it calls no
            other function of its module, and uses only names that the notebook imports.
        mistakes: functions with the same arguments that do what typically goes wrong, each standing
            alone as well; their docstrings are the hints.
        inputs: () -> list of argument tuples, made anew at each call, the same each time.
        atol: by how much answers may differ.
        start: working code with a bug, to be mended, in place of an empty stub; it has no docstring.
        slopes: compare as well the gradients of the result's sum by those inputs that ask for one, so
            that a missing or superfluous `detach()` is noticed.
    """

    solution: Callable
    mistakes: list[Callable]
    inputs: Callable[[], list[tuple]]
    atol: float = 1e-5
    start: Callable | None = None
    slopes: bool = False


@dataclass(frozen=True)
class Choice:
    """A question with one right answer: its letter, and what speaks against every other letter."""

    right: str
    hints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Number:
    """An experiment whose result is a number.

    Args:
        measured: () -> the number, measured anew in a second or so.
        atol: by how much an answer may differ.
        mistakes: functions that measure what typically goes wrong; their docstrings are the hints.
    """

    measured: Callable[[], float]
    atol: float
    mistakes: list[Callable[[], float]]


def find(number: str) -> Exercise | Choice | Number:
    """Exercise "10.1" is number 1 of notebook 10. ValueError: there is none of that number."""
    try:
        return importlib.import_module(f"iqa_exercises.n{number.split('.')[0]}").EXERCISES[number]
    except (ModuleNotFoundError, KeyError) as error:
        message = f"There is no exercise {number!r}; its notebook says how they are numbered."
        raise ValueError(message) from error


def check(number: str, answer) -> Callable | None:
    """Print ○ for an untouched stub (or a bug that is still there) and ✓ for a right answer.

    Args:
        number: such as "10.1".
        answer: the function that was asked for, the letter of a choice, or the number that was
            measured; None = not attempted.

    Returns:
        The function to go on with: the answer, or the solution in place of an untouched stub. None
        for a choice and a number.

    Raises:
        CheckFailed: a wrong answer; the message names the typical mistake, if it is one.

    >>> function = check("10.1", lambda *inputs: None)
    ○ 10.1 not attempted
    >>> function.__name__ == find("10.1").solution.__name__
    True
    """
    task = find(number)
    if isinstance(task, Choice):
        if answer is not None and str(answer).lower() != task.right:
            letters = ", ".join(sorted({task.right, *task.hints}))
            hint = task.hints.get(str(answer).lower(), f"Choose one of {letters}.")
            raise CheckFailed(f"✗ {number}: not {answer!r}. {hint}")
        print(f"✓ {number} solved" if answer else f"○ {number} not attempted")
        return None
    if isinstance(task, Number):
        _check_number(number, task, answer)
        return None
    outputs = []  # of the student's function, one for each tuple of inputs
    for inputs in task.inputs():
        try:
            output = _result(task, answer, inputs)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise CheckFailed(f"✗ {number}: your function stopped with {reason}") from error
        if output is None:
            print(f"○ {number} not attempted")
            return task.solution
        outputs.append(output)
    if task.start and not _difference(outputs, task, task.start):
        print(f"○ {number} the bug is still there")
        return answer
    difference = _difference(outputs, task, task.solution)
    if not difference:
        print(f"✓ {number} solved")
        return answer
    hint = difference
    for mistake in task.mistakes:
        if not _difference(outputs, task, mistake):
            hint = " ".join(inspect.getdoc(mistake).split())
            break
    raise CheckFailed(f"✗ {number}: {hint}")


def _check_number(number: str, task: Number, answer: float | None) -> None:
    if answer is None:
        print(f"○ {number} not attempted")
    elif not apart(answer, task.measured(), task.atol):
        print(f"✓ {number} solved")
    else:
        hint = "Measure it with the functions of this notebook, and type the number that you see."
        for mistake in task.mistakes:
            if not apart(answer, mistake(), task.atol):
                hint = " ".join(inspect.getdoc(mistake).split())
                break
        raise CheckFailed(f"✗ {number}: not {answer!r}. {hint}")


def _difference(outputs: list, task: Exercise, other: Callable) -> str:
    """Say how a student's outputs differ from another function's; "" if they agree."""
    for output, inputs in zip(outputs, task.inputs()):
        expected = _result(task, other, inputs)
        several = isinstance(expected, (tuple, list))  # a list in place of one tensor is one result
        mine = _listed(output) if several else [output]
        theirs = _listed(expected)
        if len(mine) != len(theirs):
            return f"{len(mine)} results, {len(theirs)} are asked for."
        for a, b in zip(mine, theirs):
            if isinstance(a, str) and isinstance(b, str):
                if a == b:
                    continue
                given = ", ".join(map(_shown, inputs))
                return f"Input: {given}. Expected: {b!r}. Found: {a!r}."
            try:
                difference = apart(a, b, task.atol)
            except (TypeError, ValueError):
                return f"It returns {type(a).__name__}; {type(b).__name__} is asked for."
            if difference:
                given = ", ".join(map(_shown, inputs))
                return (f"{difference} Try a tiny input, and print each step. Input: {given}. "
                        f"Expected: {_shown(b)}. Found: {_shown(a)}.")
    return ""


def _result(task: Exercise, function: Callable, inputs: tuple):
    """What a function returns, with its gradients behind it where the exercise asks for them."""
    output = function(*inputs)
    if not task.slopes or not torch.is_tensor(output):
        return output
    watched = [x for x in inputs if torch.is_tensor(x) and x.requires_grad]
    if not output.requires_grad:
        return [output, *map(torch.zeros_like, watched)]
    slopes = torch.autograd.grad(output.sum(), watched, allow_unused=True)
    return [output, *[torch.zeros_like(x) if s is None else s for x, s in zip(watched, slopes)]]


def _shown(value) -> str:
    """A value in a few characters, for a message."""
    if torch.is_tensor(value):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, np.ndarray):
        few = np.array2string(value.ravel()[:4], precision=3, separator=", ")
        if value.size <= 4 and value.ndim == 1:
            return few
        return f"shape {value.shape}, {few.removesuffix(']')}, ...]"
    if isinstance(value, float):
        return f"{value:.4g}"
    if callable(value):
        return "a function"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(output) -> list:
    return list(output) if isinstance(output, (tuple, list)) else [output]


def solution(number: str) -> str:
    """The solution as text, to be printed or pasted; of a choice its letter, of an experiment its
    number.

    >>> "def" in solution("10.1")
    True
    """
    task = find(number)
    if isinstance(task, Choice):
        return f'"{task.right}"'
    if isinstance(task, Number):
        return f"{task.measured():.2g}"
    return _source(task.solution)


def folded(number: str) -> str:
    """The solution as Markdown that a reader unfolds; it stands below the stub.

    >>> print(folded("10.1").splitlines()[0])
    <details><summary>Solution of 10.1</summary>
    """
    head = f"<details><summary>Solution of {number}</summary>"
    return f"{head}\n\n```python\n{solution(number)}\n```\n\n</details>"


def _source(function: Callable) -> str:
    return textwrap.dedent(inspect.getsource(function)).rstrip()


def cell(number: str, body: str | Callable = "stub") -> str:
    """The cell of a notebook: "stub" for students, "solution", or the function of a mistake.

    A mistake's function gets the name that the exercise asks for.

    >>> print(cell("10.1").splitlines()[0])
    # Exercise 10.1
    """
    task = find(number)
    if isinstance(task, Choice):
        letter = solution(number) if body == "solution" else None
        return f'exercises.check("{number}", {letter})  # your letter'
    if isinstance(task, Number):
        measured = solution(number) if body == "solution" else None
        return f'exercises.check("{number}", {measured})  # your number'
    name = task.solution.__name__
    function = body if callable(body) else task.solution
    text = re.sub(r"^def \w+", f"def {name}", _source(function), flags=re.M)
    if body == "stub":  # the solution's signature and docstring; then the code with the bug, or nothing
        docstring = ast.parse(text).body[0].body[0]
        head = text.splitlines()[:docstring.end_lineno]
        below = _source(task.start).splitlines()[1:] if task.start else ["    ...  # your code"]
        text = "\n".join([*head, *below])
    return f'# Exercise {number}\n{text}\n\n{name} = exercises.check("{number}", {name})'
