"""`make test-mongodb` and `make test-stripe-mock` on other people's machines: what is missing is
said, what was started is stopped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).resolve().parents[2]
NEEDS_A_STORE: Final = """
import os
def test_url() -> None:
    assert os.environ["TEST_MONGODB_URL"] == "{url}"
"""
DOCKER: Final = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
    port) echo 127.0.0.1:12345 ;;
    exec) [ -e {log}.up ] || {{ touch {log}.up; exit 1; }} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and the servers' sources alone, nothing made yet, and an empty PATH."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "tests" / "servers", tmp_path / "tests" / "servers")
    (tmp_path / "bin").mkdir()
    return tmp_path


def run(
    checkout: Path, script: str, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(checkout / "bin"), **variables}
    if "TEST_MONGODB_URL" not in variables:
        environment.pop("TEST_MONGODB_URL", None)
    return subprocess.run(
        [sys.executable, checkout / "scripts" / script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def add_test(checkout: Path, url: str) -> None:
    folder = checkout / "tests" / "integration"
    folder.mkdir()
    (folder / "test_url.py").write_text(NEEDS_A_STORE.format(url=url))


def test_without_any_tool_each_is_named_and_nothing_passes_for_tested(checkout: Path) -> None:
    answer = run(checkout, "test_mongodb.py")
    assert answer.returncode == 1
    for tool in ("docker", "javac", "go"):
        assert f"{tool} is not installed" in answer.stdout
    assert "were not run" in answer.stdout
    assert run(checkout, "test_stripe_mock.py").returncode == 1


def test_where_it_is_optional_it_is_said_and_goes_on(checkout: Path) -> None:
    for script in ("test_mongodb.py", "test_stripe_mock.py"):
        answer = run(checkout, script, "--if-any")
        assert answer.returncode == 0
        assert "go is not installed" in answer.stdout


def test_server_of_the_variable_comes_first_and_is_not_shown(checkout: Path) -> None:
    url = "mongodb://joe:hunter22@127.0.0.1:1/"
    add_test(checkout, url)
    answer = run(checkout, "test_mongodb.py", "-p", "no:cacheprovider", TEST_MONGODB_URL=url)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 passed" in answer.stdout
    assert "hunter22" not in answer.stdout + answer.stderr


def test_tests_may_reach_the_machines_of_the_url_and_no_other(checkout: Path) -> None:
    add_test(checkout, "x")
    hosts = checkout / "tests" / "integration" / "test_url.py"
    hosts.write_text(
        "def test_hosts(pytestconfig) -> None:\n"
        "    allowed = pytestconfig.getoption('allow_hosts').split(',')\n"
        "    assert allowed == ['127.0.0.0/8', '::1', 'localhost', '127.0.0.7', '127.0.0.8']\n"
    )
    url = "mongodb://joe:hunter22@127.0.0.7:27017,127.0.0.8/?replicaSet=rs0"
    answer = run(checkout, "test_mongodb.py", "-p", "no:cacheprovider", TEST_MONGODB_URL=url)
    assert "1 passed" in answer.stdout, answer.stdout + answer.stderr


def test_server_of_ours_that_is_broken_is_never_taken_for_one_that_cannot_be_had(
    checkout: Path,
) -> None:
    """`make test-mongodb IF_ANY=1` would be green without having tested anything."""
    script = "#!/bin/sh\n[ $1 = mod ] && exit\necho 'front.go:1: no' >&2\nexit 1\n"
    (checkout / "bin" / "go").write_text(script)
    (checkout / "bin" / "go").chmod(0o755)
    for name in ("test_mongodb.py", "test_stripe_mock.py"):
        answer = run(checkout, name, "--if-any")
        assert answer.returncode == 1, answer.stdout
        assert "does not work: `go build -trimpath` failed" in answer.stdout
        assert "front.go:1: no" in answer.stdout


def test_java_that_is_too_old_is_named(checkout: Path) -> None:
    (checkout / "bin" / "javac").write_text("#!/bin/sh\necho 'javac 11.0.2' >&2\n")
    (checkout / "bin" / "javac").chmod(0o755)
    answer = run(checkout, "test_mongodb.py", "--if-any")
    assert answer.returncode == 0
    assert "mongo-java-server cannot be had: Java 17 is needed, here is 11" in answer.stdout


def test_folders_run_side_by_side_and_each_is_shown_whole(checkout: Path) -> None:
    url = "mongodb://127.0.0.1:1/"
    add_test(checkout, url)
    api = checkout / "tests" / "api"
    api.mkdir()
    (api / "test_api.py").write_text("def test_of_the_api() -> None:\n    assert 2 + 2 == 5\n")
    plain = ("-p", "no:cacheprovider")

    both = run(checkout, "test_mongodb.py", *plain, TEST_MONGODB_URL=url)
    assert both.returncode == 1, "one of them failed"
    assert "assert (2 + 2) == 5" in both.stdout
    assert "1 passed" in both.stdout
    for folder, code in (("tests/api", 1), ("tests/integration", 0)):
        assert f"== {folder} on the server of TEST_MONGODB_URL: exit {code}" in both.stdout

    one = run(checkout, "test_mongodb.py", *plain, "-k", "test_url", TEST_MONGODB_URL=url)
    assert one.returncode == 0, "the selection left the other without a test"
    none = run(checkout, "test_mongodb.py", *plain, "-k", "nothing", TEST_MONGODB_URL=url)
    assert none.returncode == 5, "a selection of nothing is a mistake"


@pytest.mark.parametrize("port", [12345, 1])
def test_docker_comes_second_as_a_replica_set_and_is_removed(checkout: Path, port: int) -> None:
    """Whether the tests pass or, for the other port, fail."""
    log = checkout / "docker.log"
    (checkout / "bin" / "docker").write_text(DOCKER.format(log=log))
    (checkout / "bin" / "docker").chmod(0o755)
    (checkout / "bin" / "touch").symlink_to(shutil.which("touch") or "")
    add_test(checkout, f"mongodb://127.0.0.1:{port}/?directConnection=true")
    answer = run(checkout, "test_mongodb.py", "-p", "no:cacheprovider")
    assert (answer.returncode == 0) == (port == 12345), answer.stdout + answer.stderr
    calls = log.read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["info", "run", "exec", "exec", "port", "rm"]
    assert "--replSet rs0" in calls[1]
    assert "127.0.0.1::27017" in calls[1], "for this machine only"
    name = re.findall(r"--name (\S+)", calls[1])[0]
    assert calls[-1].endswith(name)


def test_tool_that_fails_is_quoted(checkout: Path) -> None:
    for tool in ("go", "javac"):
        (checkout / "bin" / tool).write_text("#!/bin/sh\necho 'the proxy said 403' >&2\nexit 1\n")
        (checkout / "bin" / tool).chmod(0o755)
    answer = run(checkout, "test_mongodb.py")
    assert answer.returncode == 1
    assert answer.stdout.count("the proxy said 403") == 2


def test_sources_of_the_servers_are_pinned() -> None:
    for module in (ROOT / "tests" / "servers").glob("*/go.mod"):
        required = re.findall(r"^\s*(?:require )?(\S+\.\S+/\S+) (v\S+)", module.read_text(), re.M)
        sums = (module.parent / "go.sum").read_text()
        assert required
        assert [name for name, version in required if f"{name} {version} " not in sums] == []
    jars = (ROOT / "tests/servers/mongo_java_server/checksums.sha256").read_text()
    pom = (ROOT / "tests/servers/mongo_java_server/pom.xml").read_text()
    (version,) = re.findall(r"de.bwaldvogel</groupId>\s*<artifactId>\S+\s*<version>([\d.]+)<", pom)
    assert f"  mongo-java-server-core-{version}.jar" in jars
    assert all(re.fullmatch(r"[0-9a-f]{64}  \S+\.jar", line) for line in jars.splitlines())
