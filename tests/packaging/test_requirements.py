"""The requirement files and their locks say the same, and nothing about who made them."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.lock", "requirements-dev.lock"]
# What the lock promises to serve; markers in it are evaluated for each.
PLATFORMS = [
    {"python_full_version": f"{python}.1", "python_version": python, "sys_platform": system}
    | {"platform_machine": machine, "platform_python_implementation": "CPython"}
    | {"implementation_name": "cpython"}
    for python in ("3.11", "3.12", "3.13", "3.14")
    for system, machine in (
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("darwin", "arm64"),
        ("darwin", "x86_64"),
    )
]


class Pin(NamedTuple):
    requirement: Requirement
    hashes: tuple[str, ...]


def requirements(name: str) -> list[Requirement]:
    """Those of a requirements file, and of the files that it includes."""
    found = []
    for raw in (ROOT / name).read_text().splitlines():
        line = raw.split("#")[0].strip()
        if line.startswith("-r "):
            found += requirements(line.removeprefix("-r ").strip())
        elif line:
            found.append(Requirement(line))
    return found


def pins(name: str) -> list[Pin]:
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / name).read_text())
    found = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            found.append(Pin(Requirement(requirement), tuple(hashes)))
    return found


def versions(name: str, platform: dict[str, str]) -> dict[str, str]:
    """What the lock installs there: canonical name -> version."""
    found: dict[str, str] = {}
    for requirement, _ in pins(name):
        if requirement.marker is None or requirement.marker.evaluate(dict(platform)):
            project = canonicalize_name(requirement.name)
            assert project not in found, f"{name} pins {project} twice for {platform}"
            (specifier,) = requirement.specifier
            found[project] = specifier.version
    return found


def platform_name(platform: dict[str, str]) -> str:
    return "-".join(platform[key] for key in ("python_version", "sys_platform", "platform_machine"))


@pytest.mark.parametrize("platform", PLATFORMS, ids=platform_name)
@pytest.mark.parametrize("kind", ["requirements", "requirements-dev"])
def test_lock_meets_every_requirement(kind: str, platform: dict[str, str]) -> None:
    locked = versions(f"{kind}.lock", platform)
    for requirement in requirements(f"{kind}.txt"):
        if requirement.marker is None or requirement.marker.evaluate(dict(platform)):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not locked: run make lock"
            assert requirement.specifier.contains(version), f"{requirement}, locked at {version}"


@pytest.mark.parametrize("platform", PLATFORMS, ids=platform_name)
def test_tests_run_on_the_versions_that_are_shipped(platform: dict[str, str]) -> None:
    shipped = versions("requirements.lock", platform)
    tested = versions("requirements-dev.lock", platform)
    assert shipped == {project: tested.get(project) for project in shipped}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    for requirement, hashes in pins(lock):
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes, f"{requirement} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes), requirement


@pytest.mark.parametrize(
    "name", [*LOCKS, "requirements.txt", "requirements-dev.txt", "Makefile", "Dockerfile"]
)
def test_no_index_and_no_path_of_a_machine(name: str) -> None:
    """Where packages come from is the reader's own setting; a path holds on one machine only."""
    text = (ROOT / name).read_text()
    assert not re.search(r"--(extra.)?index.url|--find.links|--trusted.host", text)
    assert not re.search(r"https?://(?!127\.0\.0\.1|localhost)|file://", text)
    assert not re.search(r"(?<![\w.])/(home|root|Users|tmp|work)/", text)


def test_what_only_tests_and_the_sandbox_need_is_not_shipped() -> None:
    shipped = {canonicalize_name(pin.requirement.name) for pin in pins("requirements.lock")}
    asked = {canonicalize_name(wanted.name) for wanted in requirements("requirements.txt")}
    all_asked = {canonicalize_name(wanted.name) for wanted in requirements("requirements-dev.txt")}
    assert all_asked > asked, "requirements-dev.txt adds nothing"
    assert not (all_asked - asked) & shipped
