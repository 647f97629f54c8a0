"""docs/reading.md has a table task -> parts -> decoded keys: it must say what the code does."""

import re
import sys
from pathlib import Path
from typing import Any, NamedTuple, is_typeddict

import pytest

import clipshards.readers
from clipshards.packer.format.tasks import TASKS
from clipshards.packer.format.video import VIDEO_SUFFIXES
from clipshards.readers.items import DECODERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reading.md"


class Row(NamedTuple):
    """One row of the table."""

    task: str
    parts: str
    item: str


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def section() -> str:
    text = PAGE.read_text(encoding="utf-8")
    return text.split("\n## Items\n")[1].split("\n## ")[0]


def rows() -> dict[str, Row]:
    lines = [line for line in section().splitlines() if line.startswith("|")]
    head, rule, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head == ["task", "parts", "decoded item"]
    assert set("".join(rule)) <= set("- ")
    found = {}
    for cells in body:
        row = Row(*cells)
        (task,) = quoted(row.task)
        assert task not in found
        found[task] = row
    return found


def shared_keys() -> set[str]:
    """Return the keys of which the text above the table speaks, for all tasks."""
    return set(quoted(section().split("\n|")[0]))


def item_class(task: str) -> Any:
    """Return the TypedDict that stands beside a task's decoder."""
    module = sys.modules[DECODERS[task].__module__]
    (found,) = (
        value
        for value in vars(module).values()
        if is_typeddict(value) and value.__module__ == module.__name__
    )
    return found


def keys_of(kind: Any) -> set[str]:
    return set(kind.__annotations__)


tasks = pytest.mark.parametrize("task", TASKS)


def test_the_table_has_a_row_for_each_task() -> None:
    assert [*rows()] == [*TASKS]
    assert {*DECODERS} == {*TASKS}


@tasks
def test_the_row_of_a_task_names_its_parts_and_no_others(task: str) -> None:
    parts = TASKS[task].parts
    text = rows()[task].parts
    named = quoted(text)
    assert len(named) == len(set(named))
    if re.search(r"\ba video$", text):
        assert TASKS[task].media == VIDEO_SUFFIXES
        named += VIDEO_SUFFIXES
    assert set(named) == set(parts)


def test_any_video_is_short_for_what_the_row_of_videos_spells_out() -> None:
    assert set(VIDEO_SUFFIXES) <= set(quoted(rows()["video"].parts))


@tasks
def test_the_row_of_a_task_names_its_class_of_items(task: str) -> None:
    name, *_ = quoted(rows()[task].item)
    kind = item_class(task)
    assert name == kind.__name__
    assert getattr(clipshards.readers, name) is kind


@tasks
def test_the_row_of_a_task_names_its_keys_and_no_others(task: str) -> None:
    keys = keys_of(item_class(task))
    _, *named = quoted(rows()[task].item)
    assert set(named) <= keys
    assert keys - set(named) <= shared_keys()


@tasks
def test_items_have_the_keys_that_the_text_gives_to_all(task: str) -> None:
    shared = shared_keys()
    assert shared == {"key", "id", "label", "labels"}
    keys = keys_of(item_class(task))
    assert {"key", "id"} <= keys
    # Class ids of a whole item: of AVA they belong to persons, of ActivityNet there are none.
    of_the_item = {"label", "labels"} & (keys - set(quoted(rows()[task].item)))
    assert of_the_item == (set() if task in ("ava", "activitynet") else {"label", "labels"})
