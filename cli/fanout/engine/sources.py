"""The source files of a project: which they are, and which of them have other content than when last looked at.

It reads files and folders, and knows nothing of how one hears that they change.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from fanout.codec import is_text
from fanout.config import Config

_SUFFIX = ".py"
_NEVER = frozenset({"__pycache__", "node_modules", "site-packages"})
_ENVIRONMENT = "pyvenv.cfg"
_GIT_PATIENCE_S = 2.0


class _Seen(NamedTuple):
    modified_ns: int
    size: int
    digest: bytes


class Sources:
    """The `*.py` below the roots of a project's apps, and its `fanout.toml`.

    Not those in hidden folders, caches, environments, and what git ignores. Links to folders are not followed.
    """

    def __init__(self, config: Config) -> None:
        self._settings = str(config.path)
        self._roots = sorted({str(app.root) for app in config.apps})
        self._journal = str(config.journal.parent)
        self._seen: dict[str, _Seen | None] = {}
        self._git = {root: Git(root) for root in self._roots}
        self.folders: set[str] = set()
        """Those that have sources, or may have some."""

    def look(self) -> set[Path]:
        """Look at all of them; those that are not what they were the last time. At first that is none."""
        is_first = not self._seen
        found: set[str] = set()
        self.folders = {os.path.dirname(self._settings)}  # noqa: PTH120 - thousands of paths, as text
        for root in self._roots:
            self._walk(root, found)
        changed = self.changed({*found, *self._seen, self._settings})
        return set() if is_first else changed

    def _walk(self, root: str, found: set[str]) -> None:
        """Level by level, so that git is asked once for each."""
        level = [root] if os.path.isdir(root) else []  # noqa: PTH112 - as above
        while level:
            below: list[str] = []
            for folder in level:
                folders, files = _content(folder)
                if folders is None:
                    continue
                found.update(files)
                if folder != self._journal or files or folder in self._roots:
                    self.folders.add(folder)
                below += folders
            ignored = self._git[root].ignored(below)
            level = [folder for folder in below if folder not in ignored and folder not in self.folders]

    def under(self, config: Config, since_ns: int) -> tuple[Sources, set[Path]]:
        """Those by other settings, and what has changed of them: other content than was seen here by the last look,
        or nothing was seen of it here, and it was written since then.
        """
        others = Sources(config)
        below = tuple(root + os.sep for root in others._roots)
        others._seen = {
            path: seen for path, seen in self._seen.items() if path == others._settings or path.startswith(below)
        }
        changed, written = others.look(), others.written_since(since_ns)
        return others, {path for path in changed if str(path) in self._seen or path in written}

    def written_since(self, ns: int) -> set[Path]:
        """Of those that were there at the last look, what was written then or later."""
        return {Path(path) for path, seen in self._seen.items() if seen is not None and seen.modified_ns >= ns}

    def concern(self, path: str) -> bool:
        """Whether it is one of them, or was, or may be one; or a folder that may have some."""
        folder, name = os.path.split(path)
        if path == self._settings or path in self.folders:
            return True
        if folder not in self.folders or name.startswith(".") or name in _NEVER:
            return False
        return name.endswith(_SUFFIX) or os.path.isdir(path)  # noqa: PTH112 - as above

    def has_other_folders(self, paths: Iterable[str]) -> bool:
        """Whether these, of which something was heard, are folders that are new or gone."""
        return any(os.path.isdir(path) != (path in self.folders) for path in paths if not path.endswith(_SUFFIX))  # noqa: PTH112

    def changed(self, paths: Iterable[str]) -> set[Path]:
        """Of these files, those whose content is another than when they were last looked at."""
        changed = {path for path in paths if self._is_changed(path)}
        for git in self._git.values():
            changed -= git.ignored([path for path in changed if path != self._settings and git.knows(path)])
        return {Path(path) for path in changed}

    def _is_changed(self, path: str) -> bool:
        is_new, before = path not in self._seen, self._seen.get(path)
        now = self._seen[path] = _see(path, before)
        if before is None or now is None:
            return before is not now or (is_new and now is not None)
        return before.digest != now.digest


def _content(folder: str) -> tuple[list[str] | None, list[str]]:
    """The folders and the sources in it; no folders at all if it is none of the project's own."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == _ENVIRONMENT:
                    return None, []
                # Nothing can be imported from a name that is no text, nor watched.
                if entry.name.startswith(".") or entry.name in _NEVER or not is_text(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(_SUFFIX):
                    files.append(entry.path)
    except OSError:
        return None, []
    return folders, files


def _see(path: str, before: _Seen | None) -> _Seen | None:
    """What is there now. A file that was not written since is not read again."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            found = os.fstat(file.fileno())
            if before is not None and (before.modified_ns, before.size) == (found.st_mtime_ns, found.st_size):
                return before
            return _Seen(found.st_mtime_ns, found.st_size, blake2b(file.read(), digest_size=16).digest())
    except OSError:
        return None


class Git:
    """What git ignores below a folder; nothing where there is no git, or where the folder itself is ignored."""

    def __init__(self, root: str) -> None:
        self._root = root
        is_there = any((folder / ".git").exists() for folder in (Path(root), *Path(root).parents))
        self._is_used = is_there and not self._ask([root])

    def knows(self, path: str) -> bool:
        return self._is_used and path.startswith(self._root + os.sep)

    def ignored(self, paths: Collection[str]) -> set[str]:
        return self._ask(paths) if self._is_used and paths else set()

    def _ask(self, paths: Collection[str]) -> set[str]:
        import subprocess  # lazy: it takes 10 ms to import, and only development needs it

        try:
            answer = subprocess.run(
                ["git", "-C", self._root, "check-ignore", "-z", "--stdin"],
                input="\0".join(paths).encode("utf-8", "surrogateescape"),
                capture_output=True,
                timeout=_GIT_PATIENCE_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            return set()
        # 0: some are ignored, 1: none is; anything else is git's own trouble.
        said = answer.stdout if answer.returncode == 0 else b""
        return {path for path in said.decode("utf-8", "surrogateescape").split("\0") if path}
