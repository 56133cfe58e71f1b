"""Random git work trees, made by the real git, whose answer is compared with ours."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = tuple("a b ab abc x.log y.txt dist build !bang #hash é [z] f[1] .hid UPPER - * a.b".split())
ODD_NAMES = (*NAMES, "a b", "sp ", "back\\s")
PIECES = (
    *("* ** ? [a-c] [!a] [^b] [z-a] [[:alpha:]] \\a \\* \\#hash \\!bang *.log *.txt a* *b".split()),
    *("f\\[1\\] upper sp\\  [ a[ \\ []a] [a back\\\\s x*g [!]] a.?.c []-] {a,b} a\\/b".split()),
    *NAMES,
)
ODD_LINES = ("# comment", "", " ", "/", "!", "//", "\\", "**", "/**", "!*", "*", "!*/", "/*", "***")
KINDS = ("plain", "split", "sparse", "worktree", "submodule", "nested", "version 4")
WHO = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


@dataclass
class GitTree:
    """A work tree of one kind, with a home of its own; `chance` makes all of it."""

    base: Path
    kind: str
    chance: random.Random

    def __post_init__(self) -> None:
        self.top, self.home = self.base / "top", self.base / "home"
        (self.home / ".config" / "git").mkdir(parents=True)
        self.top.mkdir()

    def git(self, *words: str, where: Path | None = None, lines: str = "") -> bytes:
        plain = {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / ".config")}
        done = subprocess.run(
            ["git", *WHO, *words],
            cwd=where or self.top,
            env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", **plain},
            input=lines.encode(),
            capture_output=True,
            check=False,
        )
        return done.stdout

    def make(self) -> GitTree:
        self.git("init", "-q")
        self.fill(self.top, 10)
        self.ignore_elsewhere()
        if self.kind == "version 4":
            self.git("config", "index.version", "4")
        self.track(self.top, 0.4)
        self.git("commit", "-qm", "1", "--allow-empty")
        if self.kind != "plain":
            getattr(self, f"become_{self.kind.replace(' ', '_')}")()
        self.track(self.top, 0.1)
        for name in self.git("ls-files", "-z").decode().split("\0"):
            if name and self.chance.random() < 0.1:
                self.git("rm", "-q", "--cached", "--sparse", "--", f":(literal){name}")
        return self

    def fill(self, top: Path, files: int) -> None:
        folders = [top]
        for _ in range(self.chance.randint(1, 5)):
            path = self.chance.choice(folders) / self.chance.choice(ODD_NAMES)
            if not path.exists():
                path.mkdir()
                folders.append(path)
        for _ in range(files):
            path = self.chance.choice(folders) / self.chance.choice(ODD_NAMES)
            if not path.exists():
                path.write_text("x")
        for path in folders:
            if self.chance.random() < 0.4:
                (path / ".gitignore").write_bytes(self.lines())

    def ignore_elsewhere(self) -> None:
        """In info/exclude, in the user's usual place, and in core.excludesFile of either."""
        own = self.base / "own"
        places = {
            self.top / ".git" / "info" / "exclude": "",
            self.home / ".config" / "git" / "ignore": "",
            self.home / "mine": "[core]\n\texcludesFile = ~/mine\n",
            own: "",
        }
        for path, settings in places.items():
            if self.chance.random() < 0.3:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(self.lines())
                if settings:
                    (self.home / ".gitconfig").write_text(settings)
                if path == own:
                    self.git("config", "core.excludesFile", str(own))

    def lines(self) -> bytes:
        end = self.chance.choice(["\n"] * 9 + ["\r\n"])
        text = end.join(self.line() for _ in range(self.chance.randint(1, 6)))
        mark = "\ufeff" if self.chance.random() < 0.1 else ""
        return f"{mark}{text}{self.chance.choice([end, ''])}".encode()

    def line(self) -> str:
        if self.chance.random() < 0.05:
            return self.chance.choice(ODD_LINES)
        parts = [self.chance.choice(PIECES) for _ in range(self.chance.choice([1, 1, 1, 2, 2, 3]))]
        before = self.chance.choice(["", "", "", "/", "!", "!/"])
        return before + "/".join(parts) + self.chance.choice(["", "", "", "/", " "])

    def track(self, top: Path, share: float) -> None:
        paths = [path for path in sorted(top.rglob("*")) if path.is_file() and self.is_own(path)]
        names = [f":(literal){path.relative_to(top)}" for path in paths]
        names = [name for name in names if self.chance.random() < share]
        words = ("add", "-f", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul")
        if names:
            self.git(*words, where=top, lines="\0".join(names))

    def is_own(self, path: Path) -> bool:
        parents = [path, *path.parents]
        return ".git" not in path.parts and not any(
            (folder / ".git").exists() for folder in parents[: parents.index(self.top)]
        )

    def become_version_4(self) -> None:
        """It is one already."""

    def become_split(self) -> None:
        self.git("update-index", "--split-index")

    def become_sparse(self) -> None:
        names = [path.name for path in self.top.iterdir() if path.is_dir() and path.name != ".git"]
        self.git("sparse-checkout", "init", "--cone", "--sparse-index")
        self.git("sparse-checkout", "set", "--stdin", lines="\n".join(sorted(names)[::2]))
        self.fill(self.top, 3)

    def become_worktree(self) -> None:
        self.git("worktree", "add", "-q", "--detach", str(self.base / "further"))
        self.top = self.base / "further"
        self.fill(self.top, 6)

    def become_submodule(self) -> None:
        other = self.base / "other"
        other.mkdir()
        self.git("init", "-q", where=other)
        self.fill(other, 4)
        self.git("add", "-Af", where=other)
        self.git("commit", "-qm", "1", "--allow-empty", where=other)
        self.git("submodule", "add", "-f", "--quiet", str(other), "module")
        (self.top / "module" / "extra").write_text("x")

    def become_nested(self) -> None:
        inner = self.top / "inner"
        inner.mkdir()
        self.git("init", "-q", where=inner)
        (inner / "file").write_text("x")

    def expected(self) -> set[str]:
        """The files that git tracks, or would."""
        words = ("ls-files", "-z", "-c", "-o", "--exclude-standard")
        names = [os.fsdecode(name) for name in self.git(*words).split(b"\0") if name]
        return {name for name in names if (self.top / name).is_file()}
