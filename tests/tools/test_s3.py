"""The command line on locations of S3: what it prints, its exit codes, and errors of one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import makers
import pytest
from s3_bucket import Bucket, files

Run = Callable[..., tuple[int, str, str]]

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SECRET = "wrong/secret+0123456789"


@pytest.fixture
def stored(bucket: Bucket, packed: Path) -> Bucket:
    """The data set of `packed` on S3."""
    bucket.upload(packed)
    return bucket


def pack_words(media_root: makers.MediaRoot, out: object, *options: object) -> list[object]:
    return [
        *("pack", "video", media_root.annotation, "--media-root", media_root.root),
        *("--out", out, "--split", "train", "--shard-size", "120kB", "--workers", 1, *options),
    ]


def test_pack_and_pack_again(
    run: Run, media_root: makers.MediaRoot, bucket: Bucket, tmp_path: Path
) -> None:
    near = run(*pack_words(media_root, tmp_path / "out"))
    far = run(*pack_words(media_root, bucket.url))
    assert far[0] == near[0] == 0
    assert far[2] == near[2] == ""
    assert bucket.objects() == files(tmp_path / "out")
    assert bucket.uploads() == []
    before = bucket.heads()
    code, out, err = run(*pack_words(media_root, bucket.url, "--json"))
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["location"], report["shards_made"]) == (bucket.url, 0)
    assert bucket.heads() == before
    code, out, err = run(*pack_words(media_root, bucket.url, "--seed", 5))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {bucket.url}/train: a split that another request made")
    assert err.count("\n") == 1
    assert bucket.heads() == before
    assert run(*pack_words(media_root, bucket.url, "--seed", 5, "--replan"))[0] == 0
    assert bucket.heads() != before


def test_rejects_end_with_1(run: Run, media_root: makers.MediaRoot, bucket: Bucket) -> None:
    listed = bucket  # the annotation has what is not there
    annotation = media_root.annotation.with_name("more.txt")
    annotation.write_text(media_root.annotation.read_text() + "gone.mp4 1\n")
    words = pack_words(media_root, listed.url)
    words[2] = annotation
    code, out, _ = run(*words)
    assert code == 1
    assert "gone.mp4" in out
    assert run("verify", bucket.url)[0] == 0
    annotation.unlink()


def test_parts_status_and_finish(
    run: Run, media_root: makers.MediaRoot, bucket: Bucket, tmp_path: Path
) -> None:
    assert run(*pack_words(media_root, tmp_path / "out"))[0] == 0
    assert run(*pack_words(media_root, bucket.url, "--part", "2/2"))[0] == 0
    code, out, err = run("status", bucket.url)
    assert (code, err) == (0, "")
    assert out.startswith("train: stopped, 1 of 3 shards\n")
    code, out, err = run("finish", bucket.url, "--split", "train")
    assert (code, out) == (2, "")
    assert "2 of 3 shards are not made yet" in err
    for command in ("info", "verify"):
        code, out, err = run(command, bucket.url)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {bucket.url}: packing of train has not ended")
    assert run(*pack_words(media_root, bucket.url, "--part", "1/2"))[0] == 0
    code, out, err = run("finish", bucket.url, "--split", "train", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["packed"] == 16
    assert bucket.objects() == files(tmp_path / "out")
    assert bucket.uploads() == []
    code, out, _ = run("status", bucket.url, "--json")
    assert (code, json.loads(out)[0]["state"]) == (0, "finished")


@pytest.mark.parametrize(
    "words",
    [
        ("info",),
        ("info", "--split", "val", "--json"),
        ("status",),
        ("status", "--json"),
        ("show", "train-00000005"),
        ("show", "class_1/clip_0004.mp4", "--json"),
        ("batch", "--split", "train", "--global-batch", 4, "--step", 5),
        ("batch", "--split", "train", "--global-batch", 4, "--step", 5, "--json"),
        ("when", "train-00000003", "--split", "train", "--global-batch", 4, "--epochs", 2),
        ("when", "train-00000003", "--split", "train", "--global-batch", 4, "--json"),
        ("verify",),
        ("verify", "--split", "val"),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_what_is_printed_is_what_is_printed_of_the_folder(
    run: Run, stored: Bucket, packed: Path, words: tuple[object, ...]
) -> None:
    command, *rest = words
    near, far = (run(command, location, *rest) for location in (packed, stored.url))
    assert near[0] == 0
    assert far == near


def test_verify_as_json_names_the_location(run: Run, stored: Bucket, packed: Path) -> None:
    code, out, err = run("verify", stored.url, "--json")
    assert (code, err) == (0, "")
    near = json.loads(run("verify", packed, "--json")[1])
    assert json.loads(out) == near | {"location": stored.url}


def test_extracted_files_are_those_of_the_folder(
    run: Run, stored: Bucket, packed: Path, tmp_path: Path
) -> None:
    for name, location in (("near", packed), ("far", stored.url)):
        words = ("--split", "train", "--extract", tmp_path / name)
        assert run("show", location, "train-00000005", *words)[0] == 0
    assert files(tmp_path / "far") == files(tmp_path / "near") != {}


def test_damage_ends_with_1_and_is_named(run: Run, stored: Bucket) -> None:
    name = "train/train-000001.tar"
    data = stored.read(name)
    stored.flip(name, data.rindex(b".mp4\0") // 512 * 512 + 512 + 40)
    code, out, err = run("verify", stored.url)
    assert (code, err) == (1, "")
    assert out.startswith(f"error: {name}: train-")
    assert out.splitlines()[-1].startswith("DAMAGED, ")
    code, out, _ = run("verify", stored.url, "--json", "--split", "train")
    assert (code, json.loads(out)["whole"]) == (1, False)
    stored.remove(name)
    code, out, _ = run("verify", stored.url)
    assert code == 1
    assert out.startswith(f"error: {name}: missing; ")


@pytest.mark.parametrize("as_json", [False, True])
def test_bench_measures_it(run: Run, stored: Bucket, as_json: bool) -> None:
    options = ("--split", "val", "--seconds", 0.1, "--batch-size", 4, "--clip", "uniform:2")
    code, out, err = run("bench", stored.url, *options, *(["--json"] if as_json else []))
    assert code == 0
    assert "Traceback" not in err
    if as_json:
        rows = json.loads(out)["rows"]
        assert len(rows) >= 3
        assert all(row["items"] > 0 and row["bytes_fetched"] > 0 for row in rows)
    else:
        assert out.startswith(f"<split val of {stored.url}, 16 items, ")


# What is wrong use, or cannot be had


def words_of(command: str, location: str, media_root: makers.MediaRoot) -> list[object]:
    more: dict[str, list[object]] = {
        "show": ["key"],
        "batch": ["--global-batch", 4, "--step", 1],
        "when": ["key", "--global-batch", 4],
        "finish": ["--split", "train"],
    }
    if command == "pack":
        return pack_words(media_root, location)
    return [command, location, *more.get(command, [])]


READING = ("info", "verify", "show", "status", "batch", "when", "bench", "finish")


def assert_one_line(found: tuple[int, str, str], code: int, *says: str) -> None:
    assert found[:2] == (code, "")
    assert found[2].startswith("error: ")
    assert found[2].count("\n") == 1
    for text in says:
        assert text in found[2]


@pytest.mark.parametrize("command", READING)
def test_where_nothing_stands_is_wrong_use(
    run: Run, media_root: makers.MediaRoot, bucket: Bucket, command: str
) -> None:
    assert_one_line(run(*words_of(command, bucket.url, media_root)), 2, bucket.url)
    assert bucket.names() == []


@pytest.mark.parametrize("command", ["info", "verify", "show", "bench", "finish", "status"])
def test_a_split_that_is_not_there_is_wrong_use(
    run: Run, media_root: makers.MediaRoot, stored: Bucket, command: str
) -> None:
    before = stored.heads()
    words = words_of(command, stored.url, media_root)
    if "--split" in words:
        words[words.index("--split") + 1] = "test"
    else:
        words += ["--split", "test"]
    assert_one_line(run(*words), 2, stored.url)
    assert stored.heads() == before


@pytest.mark.parametrize("command", [*READING, "pack"])
def test_a_bucket_that_is_not_there_is_told(
    run: Run, media_root: makers.MediaRoot, s3_location: str, command: str
) -> None:
    found = run(*words_of(command, "s3://no-such-bucket/set", media_root))
    # A look at a single object is answered without a reason.
    assert_one_line(found, found[0], "s3://no-such-bucket/set")
    assert found[0] in (1, 2)
    assert "bucket" in found[2].removeprefix("error: s3://no-such-bucket/set")


@pytest.mark.parametrize("command", [*READING, "pack"])
def test_missing_credentials_are_told(
    run: Run,
    media_root: makers.MediaRoot,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = run(*words_of(command, bucket.url, media_root))
    assert_one_line(found, 1, bucket.url, "no AWS credentials were found", "AWS_PROFILE")


@pytest.mark.parametrize("command", ["info", "verify", "pack"])
def test_wrong_credentials_are_told_and_not_shown(
    run: Run,
    media_root: makers.MediaRoot,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = run(*words_of(command, bucket.url, media_root))
    assert_one_line(found, 1, bucket.url)
    assert SECRET not in found[2]
    assert "secret" in found[2] or "credentials" in found[2]


def test_a_store_that_is_away_is_told(
    run: Run, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("CLIPSHARDS_S3_PATIENCE_S", "0.2")
    assert_one_line(run("info", s3_location), 1, s3_location, "given up after")


@pytest.mark.parametrize(
    "location",
    ["s3://", "s3:///set", "s3:/videos/set", "s3://videos//set", "s3://videos/set?x=1", "gs://b/x"],
)
@pytest.mark.parametrize("command", ["info", "pack"])
def test_what_is_no_address_is_wrong_use(
    run: Run, media_root: makers.MediaRoot, s3_location: str, command: str, location: str
) -> None:
    assert_one_line(run(*words_of(command, location, media_root)), 2, location)


@pytest.mark.usefixtures("s3_location")
@pytest.mark.parametrize("without", ["credentials", "bucket"])
def test_a_process_ends_without_a_traceback(s3_location: str, without: str) -> None:
    environment: dict[str, Any] = dict(os.environ)
    location = s3_location
    if without == "credentials":
        del environment["AWS_SECRET_ACCESS_KEY"], environment["AWS_ACCESS_KEY_ID"]
    else:
        location = "s3://no-such-bucket/x"
    done = subprocess.run(
        [sys.executable, "-m", "clipshards.tools.cli", "info", location],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1 if without == "credentials" else 2, "")
    assert done.stderr.startswith(f"error: {location}: ")
    assert done.stderr.count("\n") == 1
