"""What deploy/k8s says holds together: with itself, with the contracts, and with what the services accept."""

from __future__ import annotations

import importlib
import inspect
import ipaddress
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
import yaml

from deploy.dev.configs import CALLERS, FORWARDERS, UPSTREAM
from services.runtime.config import ServiceSettings, load
from services.runtime.errors import StrongroomError
from services.runtime.rpc.ports import Engine
from services.secrets.core.destinations import Place
from services.secrets.rotation.rotators.reach import NetworkRules, Reach
from services.secrets.settings import RotationSettings

ROOT = Path(__file__).resolve().parents[3]
K8S = ROOT / "deploy" / "k8s"
BASE = K8S / "base"
OVERLAYS = (K8S / "overlays" / "dev", K8S / "overlays" / "production")
SERVICES = ("keystore", "crypto", "secrets", "audit")
TRUST_DOMAIN = "spiffe://strongroom.local"
# What the files of a pod's Secrets hold, by section of the configuration.
URLS = {
    "database": "postgresql+psycopg://strongroom@db/strongroom?sslmode=verify-full",
    "redis": "rediss://strongroom:x@redis",
}
# What a service takes itself, in bad times.
OF_THE_SERVICE_MIB = 512

Document = dict[str, Any]


def read(path: Path) -> list[Document]:
    """Every document of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def kustomization(directory: Path) -> Document:
    """The kustomization of a directory."""
    (content,) = read(directory / "kustomization.yaml")
    return content


def resources(directory: Path) -> Iterator[Document]:
    """Every resource that a kustomization brings, before its patches."""
    for entry in kustomization(directory)["resources"]:
        path = (directory / entry).resolve()
        if path.is_dir():
            yield from resources(path)
        else:
            yield from read(path)


def named(directory: Path, kind: str, name: str) -> Document:
    """One resource of a kustomization."""
    (found,) = [d for d in resources(directory) if d["kind"] == kind and d["metadata"]["name"] == name]
    return found


def workload(service: str) -> Document:
    """A service's Deployment or StatefulSet in the base."""
    return named(BASE, "StatefulSet" if service == "audit" else "Deployment", service)


def pod_specs() -> Iterator[tuple[str, Document]]:
    """Every pod that any kustomization starts."""
    for directory in (BASE, *OVERLAYS, OVERLAYS[1] / "initialize-root-key"):
        for document in resources(directory):
            if "template" in document.get("spec", {}):
                yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def containers(pod: Document) -> list[Document]:
    """Its containers, those that run before the others too."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def patches(overlay: Path) -> list[Document]:
    """The patches of an overlay that are files."""
    return [
        document
        for patch in kustomization(overlay)["patches"]
        if "path" in patch
        for document in read(overlay / patch["path"])
    ]


def configurations() -> list[tuple[str, Path]]:
    """Every configuration that a ConfigMap holds, and the service that reads it."""
    return [
        (entry["name"].removesuffix("-config"), directory / file)
        for directory in (*(BASE / service for service in SERVICES), *OVERLAYS)
        for entry in kustomization(directory).get("configMapGenerator", [])
        for file in entry["files"]
    ]


def configuration(service: str) -> Document:
    """The base configuration of a service."""
    return tomllib.loads((BASE / service / f"{service}.toml").read_text())


def settings_of(service: str) -> type[ServiceSettings]:
    """The one settings class that a service defines."""
    module = importlib.import_module(f"services.{service}.settings")
    (found,) = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, ServiceSettings) and member.__module__ == module.__name__
    ]
    return found


def contract_services() -> set[str]:
    """The full name of every gRPC service of the contracts."""
    found = set()
    for path in (ROOT / "protos").rglob("*.proto"):
        text = path.read_text()
        (package,) = re.findall(r"^package ([a-z0-9_.]+);", text, re.MULTILINE)
        found |= {f"{package}.{name}" for name in re.findall(r"^service (\w+) \{", text, re.MULTILINE)}
    return found


def spiffe_ids(*services: str) -> set[str]:
    """The identities of services of the mesh."""
    return {f"{TRUST_DOMAIN}/service/{service}" for service in services}


def rule_pods(rules: list[Document], side: str, port: str | int) -> set[str]:
    """The pods that a NetworkPolicy's rules for `port` name."""
    return {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in rules
        for peer in rule[side]
        if "podSelector" in peer and {"port": port} in rule["ports"]
    }


@pytest.mark.parametrize(("service", "path"), configurations(), ids=str)
def test_every_configuration_loads_with_the_environment_of_its_pod(
    service: str, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for section in tomllib.loads(path.read_text()).keys() & URLS:
        (tmp_path / section).write_text(f"{URLS[section]}\n")
        monkeypatch.setenv(f"STRONGROOM_{service.upper()}__{section.upper()}__URL_FILE", str(tmp_path / section))
    pods = [workload(service), *(d for overlay in OVERLAYS for d in patches(overlay))]
    for document in pods:
        if document["metadata"]["name"] != service:
            continue
        for container in containers(document["spec"]["template"]["spec"]):
            for variable in container.get("env", []):
                monkeypatch.setenv(variable["name"], variable["value"])
    settings = load(settings_of(service), service, path)
    assert settings.listeners.lame_duck_seconds > 0
    assert settings.telemetry.sample_ratio < 1


def test_a_development_overlay_configuration_differs_in_the_provider_alone() -> None:
    base, dev = configuration("crypto"), tomllib.loads((OVERLAYS[0] / "crypto.toml").read_text())
    assert base.pop("provider")["kind"] == "pkcs11"
    assert dev.pop("provider")["kind"] == "local"
    assert base == dev


@pytest.mark.parametrize("service", SERVICES)
def test_allow_lists_are_those_of_the_development_mesh_and_name_services_of_the_contracts(service: str) -> None:
    internal = configuration(service)["listeners"]["internal"]
    allow: Mapping[str, list[str]] = internal.get("allow", {})
    assert set(allow) <= contract_services()
    of_doors = spiffe_ids("doors")
    assert {name: set(ids) - of_doors for name, ids in allow.items()} == {
        name: spiffe_ids(*callers) for name, callers in CALLERS[service].items()
    }
    assert set(internal.get("may_forward", ())) == spiffe_ids(*FORWARDERS.get(service, ()))


@pytest.mark.parametrize("service", SERVICES)
def test_upstream_addresses_reach_the_internal_services(service: str) -> None:
    upstream: Mapping[str, str] = configuration(service)["upstream"]
    assert set(upstream) == set(UPSTREAM[service])
    for name, address in upstream.items():
        host, _, port = address.rpartition(":")
        assert host == f"{name}-internal"
        (offered,) = named(BASE, "Service", host)["spec"]["ports"]
        assert offered["port"] == int(port)
        certificate = named(BASE, "Certificate", name)["spec"]
        assert host in certificate["dnsNames"]


@pytest.mark.parametrize("service", SERVICES)
def test_network_policies_let_through_what_the_configurations_say(service: str) -> None:
    policy = named(BASE, "NetworkPolicy", service)["spec"]
    internal = configuration(service)["listeners"]["internal"]
    callers = {i for ids in internal.get("allow", {}).values() for i in ids} | set(internal.get("may_forward", ()))
    callers |= set(internal.get("may_pass_on", ()))
    assert spiffe_ids(*rule_pods(policy["ingress"], "from", "internal")) == callers
    assert rule_pods(policy["egress"], "to", 7103) == set(UPSTREAM[service])


@pytest.mark.parametrize("service", SERVICES)
def test_ports_of_listeners_pods_services_and_probes_agree(service: str) -> None:
    listeners = configuration(service)["listeners"]
    addresses = {
        "public": listeners["public"]["address"],
        "certificate": listeners["public"]["certificate_address"],
        "internal": listeners["internal"]["address"],
        "health": listeners["health"]["address"],
    }
    listening = {name: int(address.rpartition(":")[2]) for name, address in addresses.items()}
    (container,) = workload(service)["spec"]["template"]["spec"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == listening
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == listening["health"]
    assert container["readinessProbe"]["grpc"]["service"] in contract_services()
    offered = [p for name in (service, f"{service}-internal") for p in named(BASE, "Service", name)["spec"]["ports"]]
    assert {port["targetPort"]: port["port"] for port in offered} == {
        name: port for name, port in listening.items() if name != "health"
    }


@pytest.mark.parametrize("service", SERVICES)
def test_certificates_carry_the_one_identity_of_the_pod_that_mounts_them(service: str) -> None:
    certificate = named(BASE, "Certificate", service)["spec"]
    assert set(certificate["uris"]) == spiffe_ids(service)
    volumes = {volume["name"]: volume for volume in workload(service)["spec"]["template"]["spec"]["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == certificate["secretName"]
    assert {"server auth", "client auth"} <= set(certificate["usages"])
    files = configuration(service)["tls"]
    directory = "/etc/strongroom/tls"
    assert [files["certificate"], files["key"], files["trust"]] == [
        f"{directory}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    ]


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_given_the_time_to_drain(service: str) -> None:
    listeners = configuration(service)["listeners"]
    pod = workload(service)["spec"]["template"]["spec"]
    drain = listeners["lame_duck_seconds"] + 2 * listeners["drain_seconds"]
    assert pod["terminationGracePeriodSeconds"] >= drain + 10


def test_every_pod_meets_the_restricted_standard() -> None:
    for name, pod in pod_specs():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in containers(pod):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def mebibytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_all_steps_at_targets_together_leave_the_service_its_memory() -> None:
    """Whatever tenants' targets do, the pod is not ended for want of memory."""
    settings = RotationSettings(**configuration("secrets")["rotation"])
    pods = [workload("secrets"), *(patch for patch in patches(OVERLAYS[1]) if patch["metadata"]["name"] == "secrets")]
    assert len(pods) == 2
    for pod in pods:
        (service,) = pod["spec"]["template"]["spec"]["containers"]
        limit = mebibytes(service["resources"]["limits"]["memory"])
        assert limit >= settings.memory_mib + OF_THE_SERVICE_MIB
    assert settings.memory_mib >= settings.steps_at_once * settings.step_memory_mib


def test_every_mount_has_its_volume() -> None:
    for name, pod in pod_specs():
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        for container in containers(pod):
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes, name


def test_images_are_those_that_the_overlays_give_a_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    used = {
        container["image"].partition(":")[0]
        for _, pod in pod_specs()
        for container in containers(pod)
        if ":" not in container["image"]
    }
    for overlay in (*OVERLAYS, OVERLAYS[1] / "initialize-root-key"):
        images = {image["name"]: image for image in kustomization(overlay)["images"]}
        assert used <= set(images) | {"hsm-client"}
        if overlay is OVERLAYS[0]:
            assert images["strongroom"]["newTag"] == version
        else:
            # A tag can be moved.
            assert all(re.fullmatch("sha256:[0-9a-f]{64}", image["digest"]) for image in images.values())
            assert not any("newTag" in image for image in images.values())


def test_no_pod_gets_a_secret_by_its_environment() -> None:
    pods = [pod for _, pod in pod_specs()]
    pods += [patch["spec"]["template"]["spec"] for overlay in OVERLAYS for patch in patches(overlay)]
    for pod in pods:
        for container in containers(pod):
            assert "envFrom" not in container
            assert not any("valueFrom" in variable for variable in container.get("env", ()))


@pytest.mark.parametrize("service", SERVICES)
def test_urls_with_passwords_are_read_from_files_of_secrets(service: str) -> None:
    pod = workload(service)["spec"]["template"]["spec"]
    secrets = {volume["name"] for volume in pod["volumes"] if "secret" in volume}
    for section in configuration(service).keys() & URLS:
        assert "url" not in configuration(service)[section]
        path = Path(configuration(service)[section]["url_file"])
        for container in containers(pod):
            mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert mounted[str(path.parent)] in secrets


def test_redis_of_the_development_overlay_wants_the_login_that_the_services_have() -> None:
    made = {entry["name"]: entry["literals"] for entry in kustomization(OVERLAYS[0])["secretGenerator"]}
    (url,), (users,) = made["redis"], made["redis-users"]
    login = urlsplit(url.removeprefix("url="))
    assert f"user {login.username} on >{login.password} " in users
    assert "user default off" in users
    (container,) = named(OVERLAYS[0], "Deployment", "redis")["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--aclfile", "/etc/redis/users.acl"]


def blocks(service: str) -> Iterator[tuple[str, Document]]:
    """What a service's pods may connect to in production, by address: the policy's name and the rule's."""
    for document in read(OVERLAYS[1] / "network-policies.yaml"):
        selector = document["spec"]["podSelector"]
        names = {value for one in selector.get("matchExpressions", ()) for value in one["values"]}
        names |= set(selector.get("matchLabels", {}).values())
        if not names or service in names:
            for rule in document["spec"]["egress"]:
                yield from ((document["metadata"]["name"], peer["ipBlock"]) for peer in rule["to"] if "ipBlock" in peer)


def test_targets_of_tenants_are_not_where_the_meshs_own_stores_are() -> None:
    stores = [
        ipaddress.ip_network(block["cidr"])
        for service in SERVICES
        for name, block in blocks(service)
        if name != "secrets-to-targets"
    ]
    assert all(store.num_addresses == 1 for store in stores)
    (targets,) = [block for name, block in blocks("secrets") if name == "secrets-to-targets"]
    assert not any(store.overlaps(ipaddress.ip_network(targets["cidr"])) for store in stores)
    # Each service reaches its own database and nobody else's.
    databases = {s: {block["cidr"] for name, block in blocks(s) if name.endswith("-database")} for s in SERVICES}
    assert databases.pop("crypto") == set()
    assert sum(map(len, databases.values())) == len(set().union(*databases.values())) == 3


def test_no_rule_for_targets_opens_the_meshs_own_stores() -> None:
    """Neither the sample nor one for everything."""
    text = (BASE / "secrets" / "secrets.toml").read_text()
    sample = tomllib.loads(
        text.replace("# [[rotation", "[[rotation").replace("# accounts", "accounts").replace("# places", "places")
    )
    everything = {"accounts": ["*"], "places": ["0.0.0.0/0", "10.0.0.0/8", "10.20.0.0/16:5432"]}
    stores = {block["cidr"] for service in SERVICES for name, block in blocks(service) if name != "secrets-to-targets"}
    assert len(stores) >= 5
    for rules in (sample["rotation"]["targets"], [*sample["rotation"]["targets"], everything]):
        rotation = RotationSettings(**{**sample["rotation"], "targets": rules})
        targets = tuple(rule.rule for rule in rotation.targets)
        network = NetworkRules(targets, refused=tuple(rotation.refused_targets))
        for store in stores:
            for port in (5432, 6379, 1792, 22):
                with pytest.raises(StrongroomError) as refused:
                    Reach("payments", network).address(Place(store.partition("/")[0], port))
                assert refused.value.reason == "DESTINATION_NOT_ALLOWED"
        assert Reach("payments", network).address(Place("10.40.1.1", 5432))


def test_the_collector_is_reached_over_tls() -> None:
    for patch in patches(OVERLAYS[1]):
        for container in containers(patch["spec"]["template"]["spec"]):
            for variable in container.get("env", ()):
                if variable["name"].endswith("OTLP_ENDPOINT"):
                    assert variable["value"].startswith("https://")


def test_the_image_listens_where_the_pods_do_and_runs_as_nobody() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    (exposed,) = re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)
    assert exposed.split() == ["7101", "7102", "7103", "7104", "8200"]
    assert "USER 65532:65532" in dockerfile
    assert 'ENTRYPOINT ["python", "-m"]' in dockerfile


def test_the_image_is_built_with_and_without_the_native_listener() -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE)
    (default,) = re.findall(r"^ARG LISTENER=(.+)$", dockerfile, re.MULTILINE)
    assert {f"listener-{engine}" for engine in get_args(Engine)} <= {*stages}
    assert default == "native"
    # What the build copies from the repository is in its context, in the order in which patterns count.
    ignored = (ROOT / "deploy" / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "!native" in ignored
    assert ignored.index("!native") < ignored.index("native/target")


@pytest.mark.parametrize("service", SERVICES)
def test_pods_run_their_own_service_with_their_own_configuration(service: str) -> None:
    file = f"/etc/strongroom/config/{service}.toml"
    pod = workload(service)["spec"]["template"]["spec"]
    for container in containers(pod):
        module, command, *options = container["args"]
        assert (module, options[:2]) == (f"services.{service}", ["--config", file])
        assert command == {"migrate": "migrate", "service": "serve"}[container["name"]]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["config"]["configMap"]["name"] == f"{service}-config"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_patches_change_what_is_there(overlay: Path) -> None:
    present = {(d["kind"], d["metadata"]["name"]) for d in resources(overlay)}
    for patch in patches(overlay):
        assert (patch["kind"], patch["metadata"]["name"]) in present
        (base,) = [
            d
            for d in resources(BASE)
            if d["kind"] == patch["kind"] and d["metadata"] == d["metadata"] | patch["metadata"]
        ]
        names = {container["name"] for container in containers(base["spec"]["template"]["spec"])}
        pod = patch["spec"]["template"]["spec"]
        assert {container["name"] for container in pod["containers"]} <= names
        for container in pod.get("initContainers", ()):
            # Either one of the base's, or whole.
            assert container["name"] in names or "image" in container


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.name))
def test_every_secret_of_a_pod_comes_from_somewhere(overlay: Path) -> None:
    made = {entry["name"] for entry in kustomization(overlay).get("secretGenerator", ())}
    made |= {d["spec"]["secretName"] for d in resources(overlay) if d["kind"] == "Certificate"}
    # In production the platform brings these; the kustomization says so at its top.
    promised = (overlay / "kustomization.yaml").read_text().split("apiVersion")[0]
    removed = {
        volume["name"]
        for patch in patches(overlay)
        for volume in patch["spec"]["template"]["spec"].get("volumes", ())
        if volume.get("$patch") == "delete"
    }
    for _, pod in ((d, d["spec"]["template"]["spec"]) for d in map(workload, SERVICES)):
        wanted = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v and v["name"] not in removed}
        assert all(secret in made or secret in promised for secret in wanted), wanted
