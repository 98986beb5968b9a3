"""On a real kube-apiserver."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import eventually, free_ports

from system_control.discovery import (
    AsyncServiceRegistry,
    AuthenticationError,
    DiscoveryError,
    PermissionDeniedError,
    ServiceRegistry,
)


@dataclass(frozen=True)
class Kube:
    """A kube-apiserver on loopback; `admin` may do everything, `nobody` nothing."""

    address: str
    ca_file: str

    def config(self, **cluster: object) -> dict[str, object]:
        return {"cluster_config": {"tls": {"ca_file": self.ca_file}, **cluster}}


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    binaries = {}
    for variable in ("DISCOVERY_KUBE_APISERVER", "DISCOVERY_ETCD_NEW"):
        binaries[variable] = os.environ.get(variable, "")
        assert binaries[variable], f"{variable} names no program: see scripts/servers --help"
    home: Path = tmp_path_factory.mktemp("kube")
    key = home / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True, timeout=60)
    (home / "tokens.csv").write_text('admin,admin,1,"system:masters"\nnobody,nobody,2,""\n')
    client, peer, port = free_ports(3)
    etcd = f"http://127.0.0.1:{client}"
    peers = f"http://127.0.0.1:{peer}"
    commands = [
        [
            binaries["DISCOVERY_ETCD_NEW"],
            f"--data-dir={home / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        ],
        [
            binaries["DISCOVERY_KUBE_APISERVER"],
            f"--etcd-servers={etcd}",
            f"--cert-dir={home / 'certs'}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={home / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        ],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with open(home / f"log{number}", "wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        server = Kube(f"127.0.0.1:{port}", str(home / "certs" / "apiserver.crt"))

        def ready() -> bool:
            for number, process in enumerate(running):
                assert process.poll() is None, (home / f"log{number}").read_text()[-2000:]
            if not os.path.exists(server.ca_file):
                return False
            # The namespace comes a moment after the server.
            try:
                with ServiceRegistry("k8s", endpoints=server.address, token="admin", config=server.config()) as probe:
                    probe.config.set("probe", "")
            except DiscoveryError:
                return False
            return True

        eventually(ready)
        yield server
    finally:
        for process in reversed(running):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.mark.parametrize("word", ["k8s", "kubernetes"])
def test_registers_what_is_no_pod_and_discovers_it(kube: Kube, word: str) -> None:
    name = f"billing-{word}"
    with ServiceRegistry(word, endpoints=kube.address, token="admin", config=kube.config()) as registry:
        id = registry.register(name, "192.0.2.10", 8080, meta={"version": "2.0.1"})
        registry.update_meta(id, {"last_deployed": "now"})
        instance = eventually(lambda: next(iter(registry.discover(name)), None))
        assert (instance.id, instance.address, instance.port) == (id, "192.0.2.10", 8080)
        eventually(lambda: registry.pick(name).meta.get("last_deployed") == "now")
        assert name in {service.name for service in registry.services()}
        registry.config.set("python/key", "größe")
        entry = registry.config.get("python/key")
        assert entry is not None and entry.text == "größe"
    with ServiceRegistry(word, endpoints=kube.address, token="admin", config=kube.config()) as registry:
        assert name not in {service.name for service in registry.services()}


async def test_asyncio_sees_a_change(kube: Kube) -> None:
    uri = f"k8s://{kube.address}?token_env=K8S_TEST_TOKEN&ca_file={kube.ca_file}"
    os.environ["K8S_TEST_TOKEN"] = "admin"
    async with AsyncServiceRegistry.from_uri(uri) as registry:
        async with registry.watch("async-api", timeout=60) as watch:
            seen = []
            async for snapshot in watch:
                seen.append(len(snapshot))
                if seen == [0]:
                    await registry.register("async-api", "192.0.2.1", 1)
                elif seen[-1] == 1:
                    break
        assert seen[0] == 0 and seen[-1] == 1


@pytest.mark.parametrize(
    ("token", "error", "told"),
    [("nobody", PermissionDeniedError, "list"), ("unknown", AuthenticationError, "credentials")],
)
def test_a_missing_right_is_named(kube: Kube, token: str, error: type[DiscoveryError], told: str) -> None:
    with ServiceRegistry("k8s", endpoints=kube.address, token=token, config=kube.config()) as registry:
        with pytest.raises(error) as refused:
            registry.services()
        assert told in str(refused.value)
