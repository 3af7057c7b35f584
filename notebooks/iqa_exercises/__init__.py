"""Exercises at the end of the method notebooks: one source for the student's stub, the solution and the check.

A module `nXX` beside this file holds the exercises of notebook XX: `EXERCISES = {"10.1": Exercise(...), ...}`. The cell
that a student finds is made from the solution by leaving out its body (`cell`; `python notebooks/stamp.py` writes it into
the notebook), the solution notebook by leaving the body in. A check compares the student's function with the solution
on the same inputs. Where they differ it asks which typical mistake gives the student's answer, and names it.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from lesson.check import CheckFailed, apart


@dataclass(frozen=True)
class Exercise:
    """A function to write.

    Args:
        solution: its signature and docstring are what the student gets. It stands alone: it calls no other function of
            its module, and uses only names that the notebook imports.
        mistakes: functions with the same arguments that do what typically goes wrong, each standing alone as well; their
            docstrings are the hints.
        inputs: () -> list of argument tuples, made anew at each call, the same each time.
        atol: by how much answers may differ.
        start: working code with a bug, to be mended, in place of an empty stub; it has no docstring of its own.
    """

    solution: Callable
    mistakes: list[Callable]
    inputs: Callable[[], list[tuple]]
    atol: float = 1e-5
    start: Callable | None = None


@dataclass(frozen=True)
class Choice:
    """A question with one right answer: its letter, and for every other letter what speaks against it."""

    right: str
    hints: dict[str, str] = field(default_factory=dict)


def find(number: str) -> Exercise | Choice:
    """Exercise "10.1" is number 1 of notebook 10. ValueError: there is none of that number."""
    try:
        return importlib.import_module(f"iqa_exercises.n{number.split('.')[0]}").EXERCISES[number]
    except (ModuleNotFoundError, KeyError) as error:
        raise ValueError(f"There is no exercise {number!r}; its notebook says how they are numbered.") from error


def check(number: str, answer) -> None:
    """Print ○ for an untouched stub (or a bug that is still there) and ✓ for a right answer.

    Args:
        number: such as "10.1".
        answer: the function that was asked for, or the letter of a choice; None = not attempted.

    Raises:
        CheckFailed: a wrong answer; the message names the typical mistake, if it is one.

    >>> check("10.1", lambda *inputs: None)
    ○ 10.1 not attempted
    """
    task = find(number)
    if isinstance(task, Choice):
        if answer is not None and str(answer).lower() != task.right:
            hint = task.hints.get(str(answer).lower(), f"Choose one of {', '.join(sorted({task.right, *task.hints}))}.")
            raise CheckFailed(f"✗ {number}: not {answer!r}. {hint}")
        print(f"✓ {number} solved" if answer else f"○ {number} not attempted")
        return
    given = []
    for inputs in task.inputs():
        try:
            given.append(answer(*inputs))
        except Exception as error:
            raise CheckFailed(f"✗ {number}: your function stopped with {type(error).__name__}: {error}") from error
        if given[-1] is None:
            print(f"○ {number} not attempted")
            return
    if task.start and not _differs(given, task, task.start):
        print(f"○ {number} the bug is still there")
        return
    if wrong := _differs(given, task, task.solution):
        named = [inspect.getdoc(mistake) for mistake in task.mistakes if not _differs(given, task, mistake)]
        raise CheckFailed(f"✗ {number}: {' '.join((named or [wrong])[0].split())}")
    print(f"✓ {number} solved")


def _differs(given: list, task: Exercise, other: Callable) -> str:
    """How answers differ from another function's; "" if they agree."""
    for mine, inputs in zip(given, task.inputs()):
        theirs = other(*inputs)
        mine, theirs = (list(v) if isinstance(v, (tuple, list)) else [v] for v in (mine, theirs))
        if len(mine) != len(theirs):
            return f"{len(mine)} results, {len(theirs)} are asked for."
        for a, b in zip(mine, theirs):
            try:
                found = apart(a, b, task.atol)
            except (TypeError, ValueError):
                return f"It returns {type(a).__name__}; {type(b).__name__} is asked for."
            if found:
                return f"{found} Try a tiny input, and print each step."
    return ""


def solution(number: str) -> str:
    """The solution as text, to be printed or pasted; of a choice its letter.

    >>> "def" in solution("10.1")
    True
    """
    task = find(number)
    return f'"{task.right}"' if isinstance(task, Choice) else _source(task.solution)


def _source(function: Callable) -> str:
    return textwrap.dedent(inspect.getsource(function)).rstrip()


def cell(number: str, body: str | Callable = "stub") -> str:
    """The cell of a notebook: "stub" for students, "solution", or a mistake's function under the name that is asked for.

    >>> print(cell("10.1").splitlines()[0])
    # Exercise 10.1
    """
    task = find(number)
    if isinstance(task, Choice):
        return f'exercises.check("{number}", {solution(number) if body == "solution" else None})  # your letter'
    name = task.solution.__name__
    text = re.sub(r"^def \w+", f"def {name}", _source(body if callable(body) else task.solution), flags=re.M)
    if body == "stub":  # the head of the solution; below it the code with the bug, or nothing
        head = text.splitlines()[:ast.parse(text).body[0].body[0].end_lineno]
        text = "\n".join([*head, *(_source(task.start).splitlines()[1:] if task.start else ["    ...  # your code"])])
    return f'# Exercise {number}\n{text}\n\nexercises.check("{number}", {name})'
