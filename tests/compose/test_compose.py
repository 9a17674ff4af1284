"""compose/: as far as it can be checked without containers, and further where Docker is at hand."""

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config, load_config
from pipeline.health_server import PORT_OFFSETS
from pipeline.nats_server import find_nats_server

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose"
NOT_WORKERS = {"nats", "postgres", "redis", "init-streams"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return found


def workers(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose["services"].items() if name not in NOT_WORKERS}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secrets")
    subprocess.run([COMPOSE / "make-secrets.sh", directory], check=True, capture_output=True)
    return directory


def configuration(service: dict[str, Any], secrets: Path) -> Config:
    """What a worker of this service would run with, its secrets at their place on this machine."""
    environment = {
        key: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", str(value)).replace("/run/secrets", str(secrets))
        for key, value in service["environment"].items()
    }
    return load_config(environment=environment)


def test_every_worker_has_its_service(compose: dict[str, Any]) -> None:
    assert set(workers(compose)) == set(load_config(environment={}).supervisor.workers)
    for name, service in workers(compose).items():
        assert service["command"] == ["worker", name]


def test_every_environment_is_a_valid_configuration(compose: dict[str, Any], secrets: Path) -> None:
    for name, service in {**workers(compose), "init": compose["services"]["init-streams"]}.items():
        config = configuration(service, secrets)
        assert config.nats.url == "nats://nats:4222", name
        assert len(config.nats.token.get_secret_value()) >= 32
        assert config.permit.shared_memory == "required"
        assert config.executor.mode == "paper"
    assert configuration(compose["services"]["auditor"], secrets).database_url.startswith("postgresql+psycopg://")
    assert configuration(compose["services"]["system_manager"], secrets).system_manager.token.get_secret_value()


def test_health_checks_ask_the_workers_own_port(compose: dict[str, Any]) -> None:
    base = load_config(environment={}).telemetry.http_port_base
    for name, service in workers(compose).items():
        assert f":{base + PORT_OFFSETS[name]}/readyz" in service["healthcheck"]["test"][-1]
    assert all("healthcheck" in service for name, service in compose["services"].items() if name != "init-streams")


def test_workers_wait_for_the_streams_and_the_streams_for_the_server(compose: dict[str, Any]) -> None:
    for service in workers(compose).values():
        assert service["depends_on"]["init-streams"]["condition"] == "service_completed_successfully"
    assert compose["services"]["init-streams"]["depends_on"]["nats"]["condition"] == "service_healthy"
    assert compose["services"]["auditor"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_all_workers_share_memory_and_can_drain(compose: dict[str, Any], secrets: Path) -> None:
    assert compose["volumes"]["shm"]["driver_opts"]["type"] == "tmpfs"
    uid = re.search(r"--uid (\d+)", (COMPOSE / "Dockerfile").read_text())
    assert uid is not None
    assert f"uid={uid.group(1)}," in compose["volumes"]["shm"]["driver_opts"]["o"]
    for service in workers(compose).values():
        assert "shm:/shm" in service["volumes"]
        config = configuration(service, secrets)
        assert str(config.shm_directory).startswith("/shm/")
        assert float(service["stop_grace_period"].removesuffix("s")) > config.worker.drain_s + 1


def test_what_is_referred_to_exists(compose: dict[str, Any], secrets: Path) -> None:
    declared = set(compose["secrets"])
    assert {path.name for path in secrets.iterdir()} == declared
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= declared, name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE / source).exists() if source.startswith(".") else source in compose["volumes"]
        used = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        assert used <= set(service.get("secrets", [])), f"{name} reads a secret that it is not given"


def test_nothing_is_reachable_from_outside_but_by_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_the_files() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    assert not re.search(r"(?i)(password|token): +['\"]?[a-z0-9]{6,}", text)
    assert "/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_secrets_are_made_once(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run([COMPOSE / "make-secrets.sh", secrets], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert len(set(before.values())) == len(before)
    assert stat.S_IMODE(secrets.stat().st_mode) & 0o077 == 0 or secrets.stat().st_uid == 0
    assert before["postgres_password"] in before["database_url"]


def test_the_image_copies_what_there_is() -> None:
    text = (COMPOSE / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        word
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert {"core", "pipeline", "workers", "config"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, f".dockerignore hides {name}"
    packages = re.search(r"python-packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages.group(1))) <= set(copied)


@pytest.mark.integration
def test_the_server_takes_its_configuration() -> None:
    checked = subprocess.run(
        [find_nats_server(), "-c", COMPOSE / "nats-container.conf", "-t"],
        env={"NATS_TOKEN": "0123456789abcdef"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    refused = subprocess.run(
        [find_nats_server(), "-c", COMPOSE / "nats-container.conf", "-t"], env={}, capture_output=True, check=False
    )
    assert refused.returncode != 0, "it must not start without a token"


@pytest.mark.containers
def test_docker_compose_reads_it(secrets: Path, tmp_path: Path) -> None:
    """Compose's own opinion, where the plugin is installed; it needs no daemon."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    done = subprocess.run(
        [docker, "compose", "--file", COMPOSE / "compose.yaml", "config", "--services"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= NOT_WORKERS
