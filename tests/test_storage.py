"""Files that are whole or absent, artifacts that are built once, and what killed processes leave behind."""

import os
import subprocess
import sys
import threading

import pytest

from halobench.storage import (
    Artifacts,
    atomic_file,
    atomic_folder,
    canonical_json,
    digest,
    file_digest,
    sweep,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_canonical_json_depends_on_the_value_only():
    one = {"b": [1, 2.5, None, True], "a": {"y": "e\u0301", "x": 1e-7}}
    other = {"a": {"x": 0.0000001, "y": "e\u0301"}, "b": (1, 2.5, None, True)}
    expected = (
        '{\n  "a": {\n    "x": 1e-07,\n    "y": "e\u0301"\n  },\n'
        '  "b": [\n    1,\n    2.5,\n    null,\n    true\n  ]\n}\n'
    )
    assert canonical_json(one) == canonical_json(other) == expected


def test_canonical_json_refuses_what_json_has_not():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"score": float("nan")})


def test_digest_is_the_sha256_of_the_compact_json():
    # printf '{"a":[1,2],"b":"x"}' | sha256sum
    assert (
        digest({"b": "x", "a": (1, 2)}) == "d0f56dda38d34376527524ddd98f7ec117d5cbfb240f86e11bfb9d2d01a717d9"
    )


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    # the one-block message of FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == expected


def test_write_text_makes_the_folders_it_needs_and_keeps_line_feeds(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "1\n2\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"1\n2\n"
    assert names(tmp_path / "a") == ["b.txt"]


def fail_to_write_file(path):
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def fail_to_write_folder(path):
    with atomic_folder(path) as temporary:
        (temporary / "half").touch()
        raise ZeroDivisionError


@pytest.mark.parametrize("had_content", [True, False])
def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, had_content):
    file = tmp_path / "file"
    if had_content:
        file.write_text("old")
    with pytest.raises(ZeroDivisionError):
        fail_to_write_file(file)
    assert names(tmp_path) == (["file"] if had_content else [])
    assert not had_content or file.read_text() == "old"


@pytest.mark.parametrize("had_content", [True, False])
def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path, had_content):
    folder = tmp_path / "folder"
    if had_content:
        folder.mkdir()
        (folder / "old").touch()
    with pytest.raises(ZeroDivisionError):
        fail_to_write_folder(folder)
    assert names(tmp_path) == (["folder"] if had_content else [])
    assert not had_content or names(folder) == ["old"]


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").touch()
    with atomic_folder(folder) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "new").write_text("1")
        assert names(folder) == ["old"]
    assert names(tmp_path) == ["folder"]
    assert names(folder) == ["deep"]


def test_an_artifact_is_built_once_though_two_threads_ask(tmp_path):
    artifacts = Artifacts(tmp_path)
    second_is_in = threading.Event()
    builds = []

    def build(folder):
        builds.append(folder)
        if len(builds) > 1:
            second_is_in.set()
        second_is_in.wait(timeout=0.3)  # without a lock the other thread comes in now
        (folder / "model").write_text("weights")

    threads = [threading.Thread(target=artifacts.get, args=("stages", "x", build)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert (artifacts.get("stages", "x", build) / "model").read_text() == "weights"
    assert len(builds) == 1


def test_an_artifact_is_built_once_though_two_processes_ask(tmp_path):
    code = f"""
import pathlib
from halobench.storage import Artifacts
print("asking", flush=True)
artifacts = Artifacts(pathlib.Path({str(tmp_path)!r}))
found = artifacts.get("stages", "x", lambda folder: (folder / "second").touch())
print(*(path.name for path in found.iterdir()))
"""
    processes = []

    def build(folder):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "asking\n"
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for us
            process.wait(timeout=0.5)
        (folder / "first").touch()

    Artifacts(tmp_path).get("stages", "x", build)
    [process] = processes
    assert process.communicate(timeout=60)[0] == "first\n"


def test_an_artifact_whose_build_fails_can_be_built_again(tmp_path):
    artifacts = Artifacts(tmp_path)

    def fail(folder):
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        artifacts.get("stages", "x", fail)
    assert not artifacts.path("stages", "x").exists()
    assert names(artifacts.get("stages", "x", lambda folder: (folder / "whole").touch())) == ["whole"]


def test_sweep_removes_only_what_dead_processes_left(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    kept = [f".tmp-{os.getpid()}-mine", ".tmp-notes", "whole"]
    for name in [*kept, f".tmp-{ended.pid}-file"]:
        (tmp_path / name).write_text(name)
    left = tmp_path / "deep" / f".tmp-{ended.pid}-folder"
    left.mkdir(parents=True)
    (left / f".tmp-{ended.pid}-inner").touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted([*kept, "deep"])
    assert names(tmp_path / "deep") == []
