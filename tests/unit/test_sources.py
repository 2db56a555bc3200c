"""Which files are a project's sources, and which of them have changed."""

from __future__ import annotations

import os
import queue
import subprocess
from pathlib import Path

import pytest

from fanout.config import Config, load
from fanout.engine.sources import Sources
from fanout.engine.watcher import Watcher


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "fanout.toml").write_text('[app]\nid = "a"\nfunctions = ["f"]\n')
    write(tmp_path, "f/__init__.py", "one.py")
    return load(tmp_path / "fanout.toml")


def write(root: Path, *names: str, text: str = "x = 1\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def looked(config: Config) -> Sources:
    sources = Sources(config)
    assert sources.look() == set()
    return sources


def names(config: Config, found: set[Path]) -> set[str]:
    return {str(path.relative_to(config.root)) for path in found}


def test_what_is_written_made_and_removed_has_changed(config: Config) -> None:
    sources = looked(config)
    write(config.root, "one.py", "f/new.py", "f/deep/er/mod.py", "fanout.toml", text="x = 22\n")
    (config.root / "f/__init__.py").unlink()
    found = names(config, sources.look())
    assert found == {"one.py", "f/new.py", "f/deep/er/mod.py", "fanout.toml", "f/__init__.py"}
    assert sources.look() == set()


def test_what_has_the_same_content_has_not(config: Config) -> None:
    sources = looked(config)
    write(config.root, "one.py")
    os.utime(config.root / "f/__init__.py", (1, 1))
    assert sources.look() == set()
    assert sources.changed([str(config.root / "one.py")]) == set()


@pytest.mark.parametrize(
    "name", [".fanout/a.py", "f/__pycache__/a.py", "node_modules/x/a.py", ".hidden/a.py", "f/.#one.py", "f/one.txt"]
)
def test_what_is_no_source_of_the_project_is_not_looked_at(config: Config, name: str) -> None:
    sources = looked(config)
    write(config.root, name)
    assert sources.look() == set()
    assert not sources.concern(str(config.root / name))
    assert str((config.root / name).parent) not in sources.folders or Path(name).parent == Path("f")


def test_environments_are_left_out_whatever_they_are_called(config: Config) -> None:
    write(config.root, "env/pyvenv.cfg", "env/lib/library.py")
    sources = looked(config)
    assert sources.folders == {str(config.root), str(config.root / "f")}


def test_the_folder_of_the_journal_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").write_text('[app]\nid = "a"\nfunctions = ["f"]\n[journal]\npath = "data/journal.db"\n')
    write(tmp_path, "f/__init__.py")
    write(tmp_path, "data/journal.db")
    assert looked(load(tmp_path / "fanout.toml")).folders == {str(tmp_path), str(tmp_path / "f")}


def test_what_git_ignores_is_left_out_unless_it_is_all(config: Config) -> None:
    subprocess.run(["git", "init", "-q", config.root], check=True)
    write(config.root, ".gitignore", text="build/\ngenerated.py\n")
    write(config.root, "build/lib/a.py", "generated.py")
    sources = looked(config)
    assert sources.folders == {str(config.root), str(config.root / "f")}
    write(config.root, "build/lib/a.py", "generated.py", "one.py", text="x = 22\n")
    assert names(config, sources.look()) == {"one.py"}
    write(config.root, ".gitignore", text="*\n")
    sources = looked(config)
    write(config.root, "one.py", text="x = 333\n")
    assert names(config, sources.look()) == {"one.py"}


def test_roots_may_lie_in_each_other(tmp_path: Path) -> None:
    (tmp_path / "fanout.toml").write_text(
        '[[apps]]\nid = "a"\nfunctions = ["f"]\n[[apps]]\nid = "b"\npath = "f"\nfunctions = ["g"]\n'
        '[[apps]]\nid = "c"\npath = "f"\nfunctions = ["h"]\n'
    )
    write(tmp_path, "f/g/a.py")
    config = load(tmp_path / "fanout.toml")
    sources = looked(config)
    assert sources.folders == {str(tmp_path), str(tmp_path / "f"), str(tmp_path / "f/g")}
    write(tmp_path, "f/g/a.py", text="x = 22\n")
    assert names(config, sources.look()) == {"f/g/a.py"}


def test_a_name_that_is_no_text_ends_nothing(config: Config) -> None:
    write(config.root, os.fsdecode(b"f/\xff/a.py"))
    heard = queue.Queue[None]()
    watcher = Watcher(config, lambda: heard.put(None))
    try:
        write(config.root, "one.py", text="x = 22\n")
        heard.get(timeout=60)
        assert names(config, set(watcher.take())) == {"one.py"}
    finally:
        watcher.close()


def test_what_was_saved_while_the_first_workers_started_has_changed(config: Config) -> None:
    for path in (config.path, *config.root.rglob("*.py")):
        os.utime(path, ns=(1_000, 1_000))
    os.utime(config.root / "one.py", ns=(2_000, 2_000))
    watcher = Watcher(config, lambda: None, since_ns=1_500)
    try:
        assert names(config, set(watcher.take())) == {"one.py"}
    finally:
        watcher.close()


def test_what_is_saved_while_other_settings_take_effect_has_changed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what was watched before: what other settings add is loaded for them, and is news if written after that."""
    for name in ("old.py", "new.py"):
        write(config.root, f"added/{name}")
        os.utime(config.root / "added" / name, ns=(1_000, 1_000))
    heard = queue.Queue[None]()
    watcher = Watcher(config, lambda: heard.put(None))
    try:
        config.path.write_text('[[apps]]\nid = "b"\npath = "added"\nfunctions = ["old"]\n')
        heard.get(timeout=60)
        assert names(config, set(watcher.take())) == {"fanout.toml"}
        make = Sources.__init__

        def make_late(sources: Sources, config: Config) -> None:
            write(config.root, "fanout.toml", "added/new.py", text="x = 22\n")
            make(sources, config)

        monkeypatch.setattr(Sources, "__init__", make_late)
        watcher.watch(load(config.path))
        heard.get(timeout=60)
        assert names(config, set(watcher.take())) == {"fanout.toml", "added/new.py"}
    finally:
        watcher.close()
