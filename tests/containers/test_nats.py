"""The integration tests again, against NATS in Docker under the shipped configuration.

Where no image can be pulled, one is built FROM scratch around the installed nats-server (a static binary). Where no
Docker daemon answers, the suite skips and says so; `.ci/docker.sh` installs and starts one where that is allowed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.nats_server import NatsServerError, find_nats_server, server_version

os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image cannot be pulled everywhere; we clean up ourselves
docker = pytest.importorskip("docker")
pytest.importorskip("testcontainers")

from testcontainers.core.container import DockerContainer  # noqa: E402 - after the setting and the skips above
from testcontainers.core.image import DockerImage  # noqa: E402 - after the setting and the skips above

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "compose" / "nats.conf"
PUBLIC_IMAGE = "nats:2-alpine"

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def daemon() -> None:
    """Skip without a Docker daemon."""
    try:
        docker.from_env(timeout=10).ping()
    except Exception as error:
        pytest.skip(f"no Docker daemon answers: {error}; as root on Debian, `.ci/docker.sh` installs and starts one")


@pytest.fixture(scope="session")
def image(daemon: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image with a nats-server and our configuration: the public one where it can be had, else our own."""
    context = tmp_path_factory.mktemp("image")
    shutil.copy(CONFIG, context / "nats.conf")
    try:
        docker.from_env(timeout=120).images.pull(PUBLIC_IMAGE)
        base = f"FROM {PUBLIC_IMAGE}\n"
        entry = 'ENTRYPOINT ["nats-server"]\n'
    except Exception as error:
        print(f"{PUBLIC_IMAGE} cannot be pulled ({error}); building FROM scratch")
        try:
            binary = find_nats_server()
        except NatsServerError as missing:
            pytest.skip(f"no image can be pulled and {missing}")
        shutil.copy(binary, context / "nats-server")
        base = "FROM scratch\nCOPY nats-server /nats-server\n"
        entry = 'ENTRYPOINT ["/nats-server"]\n'
    (context / "Dockerfile").write_text(base + "COPY nats.conf /nats.conf\n" + entry)
    with DockerImage(path=str(context), tag="pipeline-nats-test:latest") as built:
        yield str(built)


@pytest.fixture(scope="session")
def container_url(image: str) -> Iterator[str]:
    """A server in a container: through a published port, or on the host's network where there is no bridge."""
    command = "-c /nats.conf -a 0.0.0.0 -n container -sd /data"
    container = DockerContainer(image).with_command(command).with_exposed_ports(4222)
    try:
        container.start()
        port = int(container.get_exposed_port(4222))
    except Exception as error:
        print(f"no published port ({error}); using the host's network")
        container.stop()
        port = 14_222
        container = DockerContainer(image).with_command(command.replace("0.0.0.0", f"127.0.0.1 -p {port} -m 18222"))
        container = container.with_kwargs(network_mode="host")
        container.start()
    try:
        url = f"nats://127.0.0.1:{port}"
        deadline = time.monotonic() + 15
        while True:
            try:
                print("server in the container:", server_version(url))
                break
            except (OSError, ValueError):
                if time.monotonic() > deadline:
                    pytest.fail(f"the container does not answer: {container.get_logs()}")
                time.sleep(0.1)
        yield url
    finally:
        container.stop()


def test_the_integration_tests_pass_against_nats_in_docker(container_url: str) -> None:
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ignore", "tests/containers", "tests"),
        ],
        cwd=ROOT,
        env={**os.environ, "PIPELINE_TEST_NATS_URL": container_url},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    summary = finished.stdout[-6_000:]
    assert finished.returncode == 0, summary + finished.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", summary)
    assert passed is not None, summary
    assert int(passed[1]) >= 30, summary
