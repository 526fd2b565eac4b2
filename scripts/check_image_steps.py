"""Runs the Dockerfile's own steps without Docker and checks what would be shipped.

Each stage becomes a directory. COPY copies into it (from the context: what .dockerignore lets
through), RUN runs there with the stage's environment, and the paths that the Dockerfile makes are
moved below that directory. What this cannot show: the base image (the steps run on the Python that
runs this) and the rights of the image's user.

Standard library only. Run it with an interpreter that has pip: `make image-check`.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path, PurePosixPath

# The embedded store is for the sandbox and the tests; what it needs is not shipped.
NOT_SHIPPED = {"app.repositories.embedded": "mongomock_motor"}

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
START_TIMEOUT = 60.0


class CheckFailed(Exception):
    """What is wrong with the image, in a sentence."""


# Reading the two files ------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    name: str
    flags: dict[str, str]
    arguments: str
    line: int

    def words(self) -> list[str]:
        """Exec form (a JSON array) or words, quotes taken off."""
        if self.arguments.startswith("["):
            return [str(word) for word in json.loads(self.arguments)]
        return shlex.split(self.arguments)


def read_dockerfile(text: str) -> list[Instruction]:
    """Instructions in order: continued lines joined, comments dropped, leading `--flags` apart."""
    found: list[Instruction] = []
    pending = ""
    start = 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not pending:
            start = number
        if line.endswith("\\"):
            pending += line[:-1].rstrip() + " "
            continue
        name, _, rest = (pending + line).partition(" ")
        pending = ""
        rest = rest.strip()
        flags: dict[str, str] = {}
        while name != "RUN" and (match := re.match(r"--([a-z-]+)=(\S+)\s+", rest)):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        if "<<" in rest:
            raise CheckFailed(f"Dockerfile:{start}: here-documents are not understood here")
        found.append(Instruction(name.upper(), flags, rest, start))
    if pending:
        raise CheckFailed(f"Dockerfile:{start}: the last line continues into nothing")
    return found


def ignore_rules(text: str) -> list[tuple[re.Pattern[str], bool]]:
    """A .dockerignore as (pattern, excludes), in order; the last that matches decides."""
    rules = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        excludes = not line.startswith("!")
        pattern = line.lstrip("!").strip().strip("/")
        regex = ""
        position = 0
        while position < len(pattern):
            rest = pattern[position:]
            if rest.startswith("**/"):
                regex, position = regex + "(?:.*/)?", position + 3
            elif rest.startswith("**"):
                regex, position = regex + ".*", position + 2
            elif rest[0] == "*":
                regex, position = regex + "[^/]*", position + 1
            elif rest[0] == "?":
                regex, position = regex + "[^/]", position + 1
            elif match := re.match(r"\[[^]]+]", rest):
                regex, position = regex + match[0], position + match.end()
            else:
                regex, position = regex + re.escape(rest[0]), position + 1
        rules.append((re.compile(regex), excludes))
    return rules


def is_ignored(path: str, rules: list[tuple[re.Pattern[str], bool]]) -> bool:
    """A rule also holds for everything below what it matches."""
    parts = PurePosixPath(path).parts
    lineage = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    ignored = False
    for pattern, excludes in rules:
        if any(pattern.fullmatch(candidate) for candidate in lineage):
            ignored = excludes
    return ignored


def context_files(context: Path, sources: list[str]) -> Iterator[str]:
    """Files of the context below `sources` that .dockerignore lets through, as posix paths."""
    rules = ignore_rules((context / ".dockerignore").read_text())
    for source in sources:
        start = context / source
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            name = path.relative_to(context).as_posix()
            if path.is_file() and not is_ignored(name, rules):
                yield name


def locked_names(lock: Path) -> set[str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)
    return {normalised(name) for name in pins}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Walking the steps ----------------------------------------------------------------------------


@dataclass
class Stage:
    root: Path
    environment: dict[str, str]
    workdir: PurePosixPath
    command: list[str] = field(default_factory=list)

    def host(self, path: str) -> Path:
        """Where a path of the image lies here; relative ones count from the WORKDIR."""
        return self.root / str(self.workdir / path).lstrip("/")


class Builder:
    def __init__(self, context: Path, work: Path) -> None:
        self.context = context
        self.work = work
        self.instructions = read_dockerfile((context / "Dockerfile").read_text())
        self.stages: list[Stage] = []
        self.names: dict[str, Stage] = {}
        self.shim = work / "shim"
        self.shim.mkdir()
        python = self.shim / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        # The directories that the Dockerfile makes itself: these move below a stage's root.
        made = {i.arguments for i in self.instructions if i.name == "WORKDIR"}
        made |= {i.words()[-1] for i in self.instructions if i.name == "COPY"}
        made = {path.rstrip("/") for path in made if path.startswith("/")}
        self.moved = re.compile(rf"(?<![\w./-])(?=(?:{'|'.join(map(re.escape, made))})(?![\w-]))")

    def build(self) -> Stage:
        for instruction in self.instructions:
            step = getattr(self, "do_" + instruction.name.lower(), None)
            if step is None:
                raise CheckFailed(
                    f"Dockerfile:{instruction.line}: {instruction.name} is not understood here"
                )
            step(instruction)
        return self.stage

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    def moved_below(self, text: str, root: Path) -> str:
        return self.moved.sub(lambda _: str(root), text)

    def process_environment(self) -> dict[str, str]:
        """The stage's own variables, and of this process only how it reaches packages."""
        passed = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")
        }
        shown = {"PIP_PROGRESS_BAR": "off", "PIP_QUIET": "1"}
        return {
            "HOME": str(self.work),
            "LANG": "C.UTF-8",
            **shown,
            **passed,
            **self.stage.environment,
        }

    def do_from(self, instruction: Instruction) -> None:
        words = instruction.words()
        root = self.work / f"stage{len(self.stages)}"
        root.mkdir()
        path = f"{self.shim}:{DEFAULT_PATH}"
        self.stages.append(Stage(root, {"PATH": path}, PurePosixPath("/")))
        if len(words) == 3 and words[1].upper() == "AS":
            self.names[words[2]] = self.stage

    def do_env(self, instruction: Instruction) -> None:
        known = self.stage.environment
        for word in instruction.words():
            name, _, value = word.partition("=")
            value = re.sub(r"\$\{?(\w+)}?", lambda match: known.get(match[1], ""), value)
            known[name] = self.moved_below(value, self.stage.root)

    def do_workdir(self, instruction: Instruction) -> None:
        self.stage.workdir /= instruction.arguments
        self.stage.host(".").mkdir(parents=True, exist_ok=True)

    def do_copy(self, instruction: Instruction) -> None:
        *sources, destination = instruction.words()
        origin = instruction.flags.get("from")
        for source in sources:
            target = self.stage.host(destination)
            if origin is not None:
                self.copy_tree(self.names[origin].root / source.lstrip("/"), target, destination)
                continue
            files = list(context_files(self.context, [source]))
            if not files:
                raise CheckFailed(
                    f"Dockerfile:{instruction.line}: {source} is not in the context "
                    "(missing, empty, or kept out by .dockerignore)"
                )
            whole = (self.context / source).is_dir()
            for name in files:
                inner = os.path.relpath(name, source) if whole else Path(name).name
                directory = whole or destination.endswith("/")
                self.copy_tree(self.context / name, target / inner if directory else target, "")

    @staticmethod
    def copy_tree(source: Path, target: Path, destination: str) -> None:
        if not source.exists():
            raise CheckFailed(f"COPY: {source} does not exist")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            return
        if destination.endswith("/"):
            target /= source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)

    def do_run(self, instruction: Instruction) -> None:
        if instruction.arguments.startswith(("[", "--")):
            raise CheckFailed(f"Dockerfile:{instruction.line}: only plain RUN is understood here")
        print(f"  RUN {instruction.arguments}", flush=True)
        done = subprocess.run(
            ["/bin/sh", "-c", self.moved_below(instruction.arguments, self.stage.root)],
            cwd=self.stage.host("."),
            env=self.process_environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise CheckFailed(f"Dockerfile:{instruction.line}: RUN ended with {done.returncode}")

    def do_cmd(self, instruction: Instruction) -> None:
        self.stage.command = instruction.words()

    def do_nothing(self, instruction: Instruction) -> None:
        """Changes no file and no process that runs here."""

    do_arg = do_label = do_user = do_expose = do_stopsignal = do_healthcheck = do_nothing


# Looking at the result ------------------------------------------------------------------------


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(root)): (status.st_size, status.st_mtime_ns)
        for path in root.rglob("*")
        if stat.S_ISREG((status := path.lstat()).st_mode)
    }


def run_in(stage: Stage, command: list[str], extra: dict[str, str]) -> tuple[int, str]:
    """Runs as the image would, with nothing of this machine's environment; both outputs as one."""
    environment = {**stage.environment, "LANG": "C.UTF-8", **extra}
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None or not Path(program).is_relative_to(stage.root):
        raise CheckFailed(f"{command[0]} is not in the image's own directories")
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd=stage.host("."),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        shown = (error.stdout or b"").decode(errors="replace")
        raise CheckFailed(
            f"{shlex.join(command)} was still running after {START_TIMEOUT:.0f} s:\n{shown}"
        ) from None
    return done.returncode, done.stdout


def check_files(stage: Stage, context: Path) -> str:
    shipped = {
        path.relative_to(stage.host(".")).as_posix()
        for path in stage.host(".").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected = set(context_files(context, ["main.py", "app"]))
    if shipped != expected:
        raise CheckFailed(f"the image's files differ from app/ and main.py: {shipped ^ expected}")
    uncompiled = [
        name
        for name in sorted(shipped)
        if name.startswith("app/")
        and name.endswith(".py")
        and not list((stage.host(name).parent / "__pycache__").glob(Path(name).stem + ".*.pyc"))
    ]
    if uncompiled:
        raise CheckFailed(f"not compiled: {uncompiled}")
    return f"{len(shipped)} files: main.py and app/, compiled"


def check_packages(stage: Stage, context: Path) -> str:
    listing = "from importlib import metadata\nprint(*[d.name for d in metadata.distributions()])"
    code, output = run_in(stage, ["python", "-c", listing], {})
    if code:
        raise CheckFailed(f"the packages could not be listed:\n{output}")
    installed = {normalised(name) for name in output.split()}
    runtime = locked_names(context / "requirements.lock")
    if extra := installed - runtime:
        raise CheckFailed(f"packages that requirements.lock does not name: {sorted(extra)}")

    # By import name too, as the packages of this environment tell it.
    unshipped = locked_names(context / "requirements-dev.lock") - runtime
    modules = sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if {normalised(owner) for owner in owners} <= unshipped and module.isidentifier()
    )
    if not {"pytest", "mongomock_motor", "mypy", "httpx"} <= set(modules):
        raise CheckFailed("this needs the environment of requirements-dev.lock: make image-check")
    modules += ["pip", "setuptools", "stripe_sandbox", "tests"]
    probe = "import sys, importlib.util as u\nprint(*[m for m in sys.argv[1:] if u.find_spec(m)])"
    code, output = run_in(stage, ["python", "-c", probe, *modules], {})
    if code or output.strip():
        raise CheckFailed(f"importable in the image and not meant to be: {output.strip()}")
    return f"{len(installed)} packages of requirements.lock; {len(modules)} others not importable"


IMPORT_ALL = """
import importlib, json, sys
failed = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = error.name
print(json.dumps(failed))
"""


def check_imports(stage: Stage) -> str:
    files = (path.relative_to(stage.host(".")) for path in stage.host("app").rglob("*.py"))
    modules = sorted(".".join(file.with_suffix("").parts) for file in files)
    modules = [module.removesuffix(".__init__") for module in modules]
    code, output = run_in(stage, ["python", "-W", "error", "-c", IMPORT_ALL, *modules], {})
    if code:
        raise CheckFailed(f"a module of app cannot be imported in the image:\n{output}")
    failed = json.loads(output.splitlines()[-1])
    wrong = {name: missing for name, missing in failed.items() if NOT_SHIPPED.get(name) != missing}
    if wrong:
        raise CheckFailed(f"modules of app that need what is not shipped: {wrong}")
    return f"{len(modules) - len(failed)} modules of app import without a development package"


def check_starts(stage: Stage) -> Iterator[str]:
    """As far as it goes without a database: it must say what is missing and end."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]  # bound and not listening: connections are refused
        away = f"mongodb://127.0.0.1:{port}/?serverSelectionTimeoutMS=1000&connectTimeoutMS=1000"
        keys = {
            "STRIPE_SECRET_KEY": "sk_test_" + secrets.token_hex(24),
            "STRIPE_PUBLISHABLE_KEY": "pk_test_" + secrets.token_hex(24),
            "STRIPE_WEBHOOK_SECRET": "whsec_" + secrets.token_hex(24),
        }
        databases = {"MONGODB_URL": away, "AUTH_MONGODB_URL": away, "PORT": "0"}
        cases = [
            ("without a database", {**databases, **keys}, r"mongo|database"),
            ("in production with nothing set", {"ENVIRONMENT": "production"}, r"STRIPE_|AUTH_"),
        ]
        for title, settings, wanted in cases:
            before = snapshot(stage.root)
            code, output = run_in(stage, stage.command, settings)
            if code == 0:
                raise CheckFailed(f"started {title}, the service ended with 0:\n{output}")
            if "Traceback" in output or not re.search(wanted, output, re.IGNORECASE):
                raise CheckFailed(f"started {title}, the service gives no clear line:\n{output}")
            if leaked := [name for name, value in keys.items() if value in output]:
                raise CheckFailed(f"started {title}, the service shows {leaked}")
            if changed := snapshot(stage.root).items() ^ before.items():
                raise CheckFailed(f"started {title}, the service wrote to disk: {sorted(changed)}")
            yield f"started {title}, it ends with {code}: {output.strip().splitlines()[-1]}"


def main() -> int:
    context = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="image-steps-") as directory:
        try:
            print(f"The Dockerfile's steps, on Python {sys.version.split()[0]}:", flush=True)
            stage = Builder(context, Path(directory).resolve()).build()
            print("ok:", check_files(stage, context), flush=True)
            print("ok:", check_packages(stage, context), flush=True)
            print("ok:", check_imports(stage), flush=True)
            for line in check_starts(stage):
                print("ok:", line, flush=True)
        except CheckFailed as error:
            print(f"image-check: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
