import json

import pytest

from clipshards.tools.printing import bytes_text, print_json, print_pairs, progress_bar


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_088_448, "2.1 MB"),
        (256_000_000, "256.0 MB"),
        (1.5e12, "1.5 TB"),
        (10**18, "1000.0 PB"),
    ],
)
def test_byte_counts_have_decimal_units(count: float, text: str) -> None:
    assert bytes_text(count) == text


def test_pairs_stand_in_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs([("a", 1), ("long name", "x y")])
    print_pairs([])
    assert capsys.readouterr().out == "  a          1\n  long name  x y\n"


def test_json_keeps_text_readable(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "жить"})
    out = capsys.readouterr().out
    assert "жить" in out
    assert json.loads(out) == {"name": "жить"}


def test_the_bar_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, "B", "work") as bar:
        bar.update(10)
    assert capsys.readouterr() == ("", "")
