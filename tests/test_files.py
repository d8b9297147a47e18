import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from src import files
from src.errors import InputError

ROOT = Path(__file__).parents[1]


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    files.write_bytes(path, b"old")
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_full_disk_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = f"""if True:
        import resource
        from pathlib import Path
        from src import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        files.write_bytes(Path({str(path)!r}), b"x" * 100_000)
    """
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "File too large" in ended.stderr
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_reader_sees_the_old_or_the_new_file_whole(tmp_path):
    path = tmp_path / "file"
    contents = [letter * 500_000 for letter in (b"a", b"b")]
    files.write_bytes(path, contents[0])
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            seen.append(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        files.write_bytes(path, contents[number % 2])
    done.set()
    reader.join()
    assert seen
    assert [content for content in seen if content not in contents] == []


def test_json_comes_back_equal_and_equal_values_are_equal_bytes(tmp_path):
    value = {"rosé": [0.1 + 0.2, 1e-320, 3], "none": None}
    files.write_json(tmp_path / "a", value)
    files.write_json(tmp_path / "b", json.loads((tmp_path / "a").read_text(encoding="utf-8")))
    assert files.read_json(tmp_path / "a") == value
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert "rosé" in (tmp_path / "a").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"{'a': 1}"])
def test_what_is_no_json_is_refused_by_name(tmp_path, content):
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(InputError, match=r"file.json is not valid JSON .* Delete it and run: dvc repro"):
        files.read_json(tmp_path / "file.json")


def test_a_missing_file_is_refused_with_the_way_to_make_it(tmp_path):
    with pytest.raises(InputError, match=r"file.json is missing. Make it with: dvc repro"):
        files.read_json(tmp_path / "file.json")


def test_the_digest_is_sha256_of_the_content(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_sealed_line_is_the_sealed_value():
    value = {"epoch": 1, "name": "é\n", "loss": float("inf"), "rows": [[1.5, None]]}
    line = files.sealed_line(value)
    assert line == json.dumps(files.sealed(value)).encode() + b"\n"
    assert files.unsealed_line(line) == files.unsealed(json.loads(line)) == value
