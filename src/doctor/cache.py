"""What DVC keeps: outs against dvc.lock, and the objects of its cache against the digest that is their name.

DVC takes an object that is read-only for a good one and checks it out unread, so a bit that flipped on the disk, or a
copy that was cut short, ends up in the workspace as if it were the real thing.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from voluptuous import Invalid

from src import files, paths
from src.doctor import repository
from src.doctor.finding import Finding, ok, wrong
from src.params import Params


class Tracked(NamedTuple):
    """An out with the digest that dvc.lock, a .dvc file or the run-cache has for it. `own`: no stage makes it again."""

    path: Path
    md5: str
    cached: bool
    own: bool


def outs(_: Params) -> Iterator[Finding]:
    """What lies in the workspace against dvc.lock. While dvc runs, a stage is at work on them."""
    with _opened() as repo:
        if repo is None:
            yield ok("not looked at: DVC cannot read its files")
            return
        if running := _running():
            yield ok(f"not looked at while dvc runs: {', '.join(running)}")
            return
        known = _tracked(repo)
    missing = [out for out in known if not out.path.exists()]
    changed = [out for out in known if out.path.exists() and digest(out.path) != out.md5]
    for out in changed:
        name = out.path
        how = f"dvc commit {name}" if out.own else f"dvc repro (makes it again), or: dvc checkout --force {name}"
        yield wrong(f"{name} is not what dvc.lock says: changed by hand, or by a stage that was stopped", how)
    fresh = len(missing) == sum(out.cached for out in known)
    if missing and not fresh:
        names = ", ".join(str(out.path) for out in missing)
        yield wrong(f"missing, though dvc.lock has them: {names}", "dvc checkout, or: dvc repro")
    elif not changed:
        yield ok("nothing is made yet, or pulled" if fresh else f"{len(known)} files and folders, as dvc.lock says")


def objects(_: Params) -> Iterator[Finding]:
    """The cached objects of all outs that dvc.lock, .dvc files and the run-cache name."""
    with _opened() as repo:
        if repo is None:
            yield ok("not looked at: DVC cannot read its files")
            return
        store, known = Path(repo.cache.local.path), _tracked(repo)
        named = [*known, *_of_runs(Path(repo.stage_cache.cache_dir))]
    wanted: dict[str, Tracked] = {}
    for out in named:
        for part in (out, *_parts(out, store)):
            wanted.setdefault(part.md5, part)
    bad = [out for md5, out in wanted.items() if object_of(store, md5).exists() and not _is_good(store, md5)]
    for out in bad:
        yield _corrupted(out, object_of(store, out.md5))
    if not bad:
        yield ok(
            f"{sum(object_of(store, md5).exists() for md5 in wanted)} objects, each with the digest that it is named by"
        )


def runs(_: Params) -> Iterator[Finding]:
    """The entries of the run-cache, by which DVC brings back what a stage made before."""
    with _opened() as repo:
        if repo is None:
            yield ok("not looked at: DVC cannot read its files")
            return
        folder = Path(repo.stage_cache.cache_dir)
    entries = [path for path in sorted(folder.glob("*/*/*")) if path.is_file()]
    torn = [path for path in entries if _entry(path) is None]
    for path in torn:
        said = f"{path} is torn: DVC does not know what that run of a stage made"
        yield wrong(said, "removes it; the stage then runs again", partial(_remove, path))
    if not torn:
        yield ok(f"{len(entries)} entries")


@contextmanager
def _opened() -> Iterator[Any]:
    """DVC's view of the project, or None where it has none; the check of DVC's files says why."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(paths.root()))
        _ = repo.index.stages
    except DvcException:
        yield None
        return
    with repo:
        yield repo


def _running() -> list[str]:
    try:
        return repository.busy()
    except (ValueError, Invalid):  # torn: the check of the locks says so
        return []


def _tracked(repo: Any) -> list[Tracked]:
    return [
        Tracked(Path(out.fs_path), out.hash_info.value, out.use_cache, out.stage.is_data_source)
        for out in repo.index.outs
        if out.protocol == "local" and out.hash_info and out.hash_info.name == "md5"
    ]


def _of_runs(folder: Path) -> Iterator[Tracked]:
    for path in sorted(folder.glob("*/*/*")):
        for out in (_entry(path) or {}).get("outs", []):
            if out.get("hash") == "md5" and "md5" in out:
                yield Tracked(paths.root() / out["path"], out["md5"], True, False)


def _entry(path: Path) -> dict[str, Any] | None:
    """An entry of the run-cache; None when it is torn."""
    from ruamel.yaml import YAML, YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError):
        return None
    whole = isinstance(content, dict) and "cmd" in content and all("path" in out for out in content.get("outs", []))
    return content if whole else None


def _parts(out: Tracked, store: Path) -> Iterator[Tracked]:
    """The files in a folder, by its listing in the cache where that is good."""
    if out.md5.endswith(".dir") and object_of(store, out.md5).exists() and _is_good(store, out.md5):
        for part in json.loads(object_of(store, out.md5).read_bytes()):
            yield Tracked(out.path / part["relpath"], part["md5"], out.cached, out.own)


def object_of(store: Path, md5: str) -> Path:
    return store / md5[:2] / md5[2:]


def _is_good(store: Path, md5: str) -> bool:
    return file_digest(object_of(store, md5)) == md5.removesuffix(".dir")


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def listing(folder: Path) -> bytes:
    """A folder as DVC writes it down: the digest and the path of every file, sorted by path."""
    found = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    return json.dumps([{"md5": file_digest(path), "relpath": name} for name, path in found], sort_keys=True).encode()


def digest(path: Path) -> str:
    """The digest that DVC gives a file or folder."""
    if path.is_dir():
        return hashlib.md5(listing(path), usedforsecurity=False).hexdigest() + ".dir"
    return file_digest(path)


def _corrupted(out: Tracked, stored: Path) -> Finding:
    name = out.path
    said = f"{stored} is corrupted: it is named by the digest of {name}, and has another one"
    if out.path.exists() and digest(out.path) == out.md5:
        return wrong(said, f"puts it back from {name}, which is good", partial(_put_back, out, stored))
    if out.own:
        return wrong(said, f"rm {stored} && dvc pull, or bring {name} back and: dvc add {name}")
    return wrong(
        said,
        "removes it; when that result is wanted again, dvc repro makes it anew, or dvc pull fetches it",
        partial(_remove, stored),
    )


def _put_back(out: Tracked, stored: Path) -> str:
    beside = stored.with_name(f".{stored.name}.partial")
    try:
        if out.path.is_dir():
            files.write_bytes(beside, listing(out.path))
        else:
            shutil.copyfile(out.path, beside)
        beside.chmod(0o444)
        if file_digest(beside) != out.md5.removesuffix(".dir"):
            raise OSError(f"{out.path} was changed meanwhile")
        files.sync(beside)
        beside.replace(stored)
    finally:
        beside.unlink(missing_ok=True)
    return f"Put back from {out.path}"


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return "Removed. Next: dvc repro"
