import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import makers
import pytest

from clipshards.packer.format.rejects import decode_rejects
from clipshards.readers.integrity import verify
from clipshards.readers.opening import open_dataset
from clipshards.readers.split import Split
from clipshards.tools.pack_run import parse_size

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pack_list(run: Run, media_root: makers.MediaRoot, tmp_path: Path) -> Run:
    """Run `clipshards pack video` on a list of these lines, with these options."""

    def pack_list(lines: str, *options: object) -> tuple[int, str, str]:
        (tmp_path / "list.txt").write_text(lines)
        return run(
            *("pack", "video", tmp_path / "list.txt", "--media-root", media_root.root),
            *("--out", tmp_path / "out", "--split", "train", *options),
        )

    return pack_list


def lines_of(media_root: makers.MediaRoot, count: int = 4) -> str:
    rows = zip(media_root.paths[:count], media_root.labels, strict=False)
    return "".join(f"{path} {label}\n" for path, label in rows)


def ids_in_order(split: Split) -> list[str]:
    shards = range(len(split.manifest.shards))
    return [name for shard in shards for name in split.read_index(shard).ids]


def test_a_list_is_packed_and_reported(
    run: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = (
        *("pack", "video", media_root.annotation, "--media-root", media_root.root),
        *("--out", out, "--split", "train", "--shard-size", "120kB"),
    )
    code, text, err = run(*command)
    split = open_dataset(out)
    shards = len(split.manifest.shards)
    assert (code, err) == (0, "")
    assert text.startswith("16 of 16 entries packed in ")
    assert f"({shards} of {shards} shards made by this run)" in text
    assert f"{out}/train" in text
    assert split.manifest.content_digest[:12] in text
    assert "rejects" not in text
    assert text.endswith(f"next: clipshards verify {out}\n")
    assert sorted(ids_in_order(split)) == sorted(media_root.paths)
    assert verify(out).whole
    # Once more, nothing is left to do.
    code, text, err = run(*command)
    assert (code, err) == (0, "")
    assert text.startswith("16 of 16 entries already packed in ")
    assert f"(0 of {shards} shards made by this run)" in text


def test_the_report_comes_as_json(pack_list: Run, media_root: makers.MediaRoot) -> None:
    code, out, err = pack_list(lines_of(media_root), "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report.keys() == {
        "location",
        "split",
        "entries",
        "packed",
        "excluded",
        "rejects",
        "shards",
        "shards_made",
        "bytes",
        "source_bytes",
        "content_digest",
        "warnings",
        "seconds",
    }
    split = open_dataset(report["location"])
    assert report["content_digest"] == split.manifest.content_digest
    assert report["bytes"] == split.manifest.size_bytes
    assert (report["entries"], report["packed"], report["rejects"]) == (4, 4, [])


def test_rejects_are_listed_by_line_and_end_with_1(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    (first, second) = media_root.paths[:2]
    lines = f"{first} 0\ngone.mp4 1\n{second}\n\n{second} x\n{second} 2\n../out.mp4 0\n"
    for done in ("2 of 7 entries packed", "2 of 7 entries already packed"):
        code, out, err = pack_list(lines)
        assert (code, err) == (1, "")
        assert out.startswith(done)
        assert re.search(r"rejects +5.*, listed in train/rejects\.jsonl", out)
        listed = [line.strip() for line in out.splitlines() if line.strip().startswith("list.txt:")]
        assert [line.split(": ")[0] for line in listed] == [
            f"list.txt:{number}" for number in (2, 3, 4, 5, 7)
        ]
        assert "'gone.mp4': no such file under the media root" in listed[0]
        assert "expected 'path label'" in listed[1]
        assert "blank line" in listed[2]
        assert "expected a class id, 0 or more, got 'x'" in listed[3]
        assert "leads out of the media root" in listed[4]
    code, out, err = pack_list(lines, "--json")
    assert code == 1
    rejects = json.loads(out)["rejects"]
    data = (tmp_path / "out" / "train" / "rejects.jsonl").read_bytes()
    assert [tuple(row.values()) for row in rejects] == [
        (row.ordinal, row.entries, row.key, row.id, row.origin, row.error, row.message)
        for row in decode_rejects(data, where="rejects")
    ]


def test_of_many_rejects_the_first_ten_are_listed(
    pack_list: Run, media_root: makers.MediaRoot
) -> None:
    gone = "".join(f"gone{number}.mp4 0\n" for number in range(12))
    code, out, _ = pack_list(lines_of(media_root) + gone, "--max-rejects", 12)
    assert code == 1
    assert out.count("list.txt:") == 10
    assert re.search(r"rejects +12, ", out)
    assert "and 2 more" in out


def test_too_many_rejects_leave_no_manifest(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    lines = lines_of(media_root) + "gone.mp4 0\n"
    code, out, err = pack_list(lines, "--max-rejects", 0)
    assert code == 1
    assert out.strip() == "list.txt:5: 'gone.mp4': no such file under the media root"
    assert err.startswith("error: 1 of 5 entries cannot be packed, 0 may be rejected; no manifest")
    assert "list.txt:5: 'gone.mp4'" in err
    code, out, err = pack_list(lines, "--max-rejects", 0, "--json")
    assert code == 1
    report = json.loads(out)
    assert [row["origin"] for row in report["rejects"]] == ["list.txt:5"]
    assert report["error"] in err
    assert not (tmp_path / "out" / "train" / "manifest.json").exists()
    code, _, _ = pack_list(lines, "--max-rejects", 1)
    assert code == 1
    assert len(open_dataset(tmp_path / "out")) == 4


def test_an_empty_list_is_an_error(pack_list: Run) -> None:
    code, out, err = pack_list("")
    assert (code, out) == (1, "")
    assert "list.txt: expected at least one entry" in err


def test_labels_are_one_many_or_none(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    a, b = media_root.paths[:2]
    for mode, lines, options in (
        ("one", f"{a} 2\n{b} 0\n", ()),
        ("many", f"{a} 2 1\n{b} 0\n", ("--multi-label",)),
        ("none", f"{a}\n{b}\n", ("--unlabelled",)),
    ):
        code, _, err = pack_list(lines, "--replan", *options)
        assert (code, err) == (0, "")
        manifest = open_dataset(tmp_path / "out").manifest
        assert manifest.labels == mode
    code, out, err = pack_list("x 0\n", "--multi-label", "--unlabelled")
    assert (code, out) == (2, "")
    assert "--multi-label and --unlabelled exclude each other" in err


@pytest.mark.parametrize("written", ["\\t", "\t", ";", "::"])
def test_the_delimiter_may_be_another(
    run: Run, tmp_path: Path, media_root: makers.MediaRoot, written: str
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "a b.mp4").write_bytes((media_root.root / media_root.paths[0]).read_bytes())
    character = written.replace("\\t", "\t")
    (tmp_path / "list.txt").write_text(f"a b.mp4{character}7\n")
    code, _, err = run(
        *("pack", "video", tmp_path / "list.txt", "--media-root", media),
        *("--out", tmp_path / "out", "--split", "train", "--delimiter", written),
    )
    assert (code, err) == (0, "")
    index = open_dataset(tmp_path / "out").read_index(0)
    assert (index.ids, index.summary["labels"]) == (["a b.mp4"], [[7]])


def test_an_output_without_unicode_stops_no_report(
    media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{media_root.paths[0]} 0\nжить.mp4 0\n", encoding="utf-8")
    command = [sys.executable, "-m", "clipshards.tools.cli", "pack", "video", "list.txt"]
    done = subprocess.run(
        [*command, "--media-root", str(media_root.root), "--out", "out", "--split", "train"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert rb"list.txt:2: '\u0436\u0438\u0442\u044c.mp4': no such file" in done.stdout


def test_class_names_stand_in_the_manifest(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("run\nsit down\nжить\n", encoding="utf-8")
    code, _, err = pack_list(lines_of(media_root), "--class-names", names)
    assert (code, err) == (0, "")
    assert open_dataset(tmp_path / "out").manifest.class_names == ("run", "sit down", "жить")
    names.write_text("run\njump\n", encoding="utf-8")
    code, out, _ = pack_list(lines_of(media_root), "--class-names", names, "--replan")
    assert code == 1
    assert "list.txt:3: expected a class id below 2" in out


def test_a_blank_line_is_no_class_name(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("run\n\njump\n")
    code, out, err = pack_list(lines_of(media_root), "--class-names", names)
    assert (code, out) == (1, "")
    assert f"{names}:2: " in err


def test_the_frame_table_may_be_left_out(pack_list: Run, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    # Unopened, and thus not found out.
    outside = ("--media-root", tmp_path, "--frame-table", "none")
    code, _, err = pack_list("text.mp4 0\n", *outside)
    assert (code, err) == (0, "")
    assert open_dataset(tmp_path / "out").manifest.recipe["frame_table"] == "none"
    code, _, err = pack_list("text.mp4 0\n", "--media-root", tmp_path, "--replan")
    assert code == 1
    assert "list.txt:1: 'text.mp4': not a readable mp4" in err
    code, _, err = pack_list("text.mp4 0\n", "--frame-table", "guess")
    assert code == 2
    assert "'guess' is not one of" in err


def test_the_order_is_shuffled_by_the_seed_or_kept(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    orders = []
    for options in (("--keep-order",), (), ("--seed", 1), ("--seed", 0)):
        code, _, err = pack_list(lines_of(media_root, 16), "--replan", *options)
        assert (code, err) == (0, "")
        orders.append(ids_in_order(open_dataset(tmp_path / "out")))
    kept, default, one, zero = orders
    assert kept == list(media_root.paths)
    assert default == zero != kept
    assert len({tuple(kept), tuple(zero), tuple(one)}) == 3


def test_paths_may_lead_out_of_the_media_root_when_allowed(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    inside = media_root.root / "class_0"
    lines = f"../{media_root.paths[1]} 0\n{media_root.root / media_root.paths[2]} 0\n"
    code, _, err = pack_list(lines, "--media-root", inside)
    assert code == 1
    assert "leads out of the media root" in err
    code, _, err = pack_list(lines, "--media-root", inside, "--allow-outside", "--replan")
    assert (code, err) == (0, "")
    assert len(open_dataset(tmp_path / "out")) == 2


def test_another_request_is_refused_until_replanned(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    assert pack_list(lines_of(media_root))[0] == 0
    before = open_dataset(tmp_path / "out").manifest.content_digest
    code, out, err = pack_list(lines_of(media_root), "--seed", 9)
    assert (code, out) == (2, "")
    assert "another request made stands here" in err
    assert "replan" in err
    assert open_dataset(tmp_path / "out").manifest.content_digest == before
    assert pack_list(lines_of(media_root), "--seed", 9, "--replan")[0] == 0
    assert open_dataset(tmp_path / "out").manifest.content_digest != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "Train"), "split 'Train': expected 1 to 32 characters"),
        (("--shard-size", "5 apples"), "size '5 apples': expected a number of bytes"),
        (("--shard-size", "0"), "size '0': expected"),
        (("--delimiter", ""), "delimiter '': expected"),
        (("--media-root", "nowhere"), "'nowhere' does not exist"),
        (("--class-names", "nowhere"), "'nowhere' does not exist"),
        (("--max-rejects", "-1"), "-1 is not in the range"),
        (("--seed", "x"), "'x' is not a valid integer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options_end_with_2(
    pack_list: Run,
    media_root: makers.MediaRoot,
    tmp_path: Path,
    options: tuple[str, ...],
    message: str,
) -> None:
    code, out, err = pack_list(lines_of(media_root), *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out").exists(), "something was written"


def test_a_missing_annotation_is_wrong_use(run: Run, tmp_path: Path) -> None:
    code, out, err = run(
        "pack", "video", "gone.txt", "--media-root", tmp_path, "--out", "x", "--split", "train"
    )
    assert (code, out) == (2, "")
    assert "'gone.txt' does not exist" in err


@pytest.mark.parametrize(("size", "shards"), [("1GB", 1), ("120 kB", 3), ("120000", 3), ("1B", 16)])
def test_the_shard_size_decides_the_number_of_shards(
    pack_list: Run, media_root: makers.MediaRoot, tmp_path: Path, size: str, shards: int
) -> None:
    code, _, err = pack_list(lines_of(media_root, 16), "--shard-size", size)
    assert (code, err) == (0, "")
    assert len(list((tmp_path / "out" / "train").glob("*.tar"))) == shards


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("1b", 1),
        ("10kB", 10_000),
        ("10 KB", 10_000),
        ("256MB", 256_000_000),
        (" 256 mb ", 256_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.5kB", 500),
        ("1.0004kB", 1000),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "B", "MB", "0", "0.4", "-1", "-1kB", "nan", "inf", "infGB", "1PB", "1 MiB", "1k"),
        *("1M", "1kBB", "1 k B", "kB1", "1,5MB", "1.5.2", "0x10", "256MB MB", "1e400"),
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match="expected a number of bytes, or one with kB, MB, GB or TB"
    ):
        parse_size(text)


# Runs the command line and sends itself the signal of Ctrl-C when the third shard gets its name.
INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path

folder = Path(sys.argv.pop(1))

def watch():
    while len(list(folder.glob(".build/*.tar.json"))) < 2:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
from clipshards.tools.cli import main
threading.Thread(target=watch, daemon=True).start()
main()
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupted_run_says_how_to_go_on_and_goes_on(
    run: Run, media_root: makers.MediaRoot, tmp_path: Path, workers: str
) -> None:
    def command(out: str) -> list[str]:
        options = ["--split", "train", "--shard-size", "20kB", "--out", str(tmp_path / out)]
        root = ["--media-root", str(media_root.root), "--workers", workers]
        return ["pack", "video", str(media_root.annotation), *root, *options]

    folder = tmp_path / "out" / "train"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(folder), *command("out")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert (
        "Interrupted. Given again without --replan, a pack or copy command goes on where this one "
        "stopped." in done.stderr
    )
    assert "Traceback" not in done.stderr
    shards = len(list(folder.glob("*.tar")))
    code, out, err = run(*command("out"))
    assert (code, err) == (0, "")
    total = len(open_dataset(tmp_path / "out").manifest.shards)
    assert 2 <= shards < total
    # A shard may have got its name and not yet its receipt: it is made again.
    made = [f"({total - kept} of {total} shards made by this run)" for kept in range(2, shards + 1)]
    assert any(text in out for text in made), out
    assert verify(tmp_path / "out").whole
    assert run(*command("straight"))[0] == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "straight")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_bar_shows_the_progress_on_a_terminal(
    media_root: makers.MediaRoot, tmp_path: Path
) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "clipshards.tools.cli", "pack", "video"),
            *(str(media_root.annotation), "--media-root", str(media_root.root)),
            *("--out", str(tmp_path / "out"), "--split", "train"),
        ],
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux reports the other end's closing so
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"pack train" in shown
    assert b"16" in shown
    assert out.startswith(b"16 of 16 entries packed")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("audio --keep-audio flac", "--keep-audio needs --features compute"),
        ("ava --rate 25", "--rate needs --filename-tmpl"),
        ("ava --start-index 1", "--start-index needs --filename-tmpl"),
        ("ava --python2", "--python2 needs --proposals"),
        ("skeleton --box-thr 0.6", "--box-thr needs --valid-ratio"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    run: Run, tmp_path: Path, words: str, says: str
) -> None:
    (tmp_path / "list").touch()
    command, *options = words.split()
    arguments = ["--media-root", tmp_path, "--out", tmp_path / "o", "--split", "t", *options]
    code, out, err = run("pack", command, tmp_path / "list", *arguments)
    assert (code, out) == (2, "")
    assert says in err
