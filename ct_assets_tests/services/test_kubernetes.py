"""Jobs as a cluster would get them, from the real launcher and executor against an API that only listens.

No cluster runs here: what is shown is that the specifications are right, not that a scheduler places them.
"""

import http.server
import json
import re
import threading
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ct_assets.defs.engine import resources
from ct_assets.defs.engine.build import build_definitions
from ct_assets.defs.engine.instance import instance_config
from ct_assets.defs.operations.service import PORTS
from ct_assets.settings.load import PROJECT_ROOT
from ct_assets.settings.platform import Settings
from ct_assets.settings.service import KubernetesSettings, Resources, ServiceSettings

pytest.importorskip("dagster_k8s", reason="the extra `k8s` is not installed here")
kubernetes = pytest.importorskip("kubernetes")

MANIFESTS = sorted((PROJECT_ROOT / "deploy/k8s").glob("*.yaml"))
DATABASE = "postgresql+psycopg2://ct@db:5432/ct_assets"


class Cluster:
    """Keeps the jobs that are created."""

    def __init__(self, folder: Path) -> None:
        self.jobs: list[dict] = []
        cluster = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.path.split("?")[0] == "/apis/batch/v1/namespaces/ct-assets/jobs"
                cluster.jobs.append(body)
                answer = json.dumps(body).encode()
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.kubeconfig = folder / "kubeconfig"
        where = {"server": f"http://127.0.0.1:{self.server.server_port}"}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "test",
                    "clusters": [{"name": "test", "cluster": where}],
                    "users": [{"name": "test", "user": {}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                }
            )
        )  # fmt: skip


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


def service_of(cluster) -> ServiceSettings:
    return ServiceSettings(
        database=DATABASE,
        kubernetes=KubernetesSettings(image="ct-assets:0.1.0", kubeconfig=str(cluster.kubeconfig)),
    )


@pytest.fixture
def instance(cluster, tmp_path):
    """The instance as it is rendered, over sqlite: the launcher is what is looked at."""
    config = instance_config(service_of(cluster))
    del config["storage"]
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


def validated(job: dict) -> "kubernetes.client.V1Job":
    """Return the job as Kubernetes' own model of the API reads it; unknown keys are refused."""
    refuse_unknown_keys(job, kubernetes.client.V1Job)
    client = kubernetes.client.ApiClient()
    return client._ApiClient__deserialize(job, "V1Job")


def refuse_unknown_keys(content, model, where=""):
    """Hold a manifest against the typed model of the API, key by key."""
    attributes = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    unknown = set(content) - set(attributes)
    assert not unknown, f"{where or model.__name__}: {unknown} is not in {model.__name__}"
    for key, value in content.items():
        kind = attributes[key]
        inner = re.fullmatch(r"(?:list\[|dict\(str, )?(V\d\w+)[\])]?", kind)
        if inner is None:
            continue
        typed = getattr(kubernetes.client, inner[1])
        several = value if isinstance(value, list) else value.values() if kind.startswith("dict") else [value]
        for one in several:
            refuse_unknown_keys(one, typed, f"{where}.{key}")


def launch(instance, **tags) -> None:
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.launcher import LaunchRunContext
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
    from dagster._core.test_utils import create_run_for_test

    origin = JobPythonOrigin(
        "ingest",
        RepositoryPythonOrigin(
            "python", ModuleCodePointer("ct_assets.definitions", "defs"), container_image=None
        ),
    )
    run = create_run_for_test(instance, job_name="ingest", job_code_origin=origin, tags=tags)
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))


class TestARun:
    def test_is_a_job_of_the_namespace_with_image_data_settings_and_secrets(self, instance, cluster):
        launch(instance)
        (sent,) = cluster.jobs
        job = validated(sent)
        pod = job.spec.template.spec
        container = pod.containers[0]
        assert container.image == "ct-assets:0.1.0"
        assert pod.service_account_name == "ct-assets"
        assert {mount.mount_path for mount in container.volume_mounts} >= {"/data", "/etc/ct-assets"}
        assert [source.secret_ref.name for source in container.env_from if source.secret_ref] == [
            "ct-assets-secrets"
        ]
        told = {variable.name: variable.value for variable in container.env}
        assert told["CT_ASSETS_CONFIG"] == "/etc/ct-assets/settings.yaml"
        assert job.spec.ttl_seconds_after_finished == 86400

    def test_has_no_secret_in_its_specification(self, instance, cluster, monkeypatch):
        monkeypatch.setenv("PGPASSWORD", "very-secret-password")
        monkeypatch.setenv("CT_ASSETS_DEID_KEY", "ab" * 32)
        launch(instance)
        assert "very-secret-password" not in json.dumps(cluster.jobs)
        assert "ab" * 32 not in json.dumps(cluster.jobs)

    def test_is_what_a_restricted_namespace_lets_in(self, instance, cluster):
        launch(instance)
        pod = validated(cluster.jobs[0]).spec.template.spec
        assert pod.security_context.run_as_non_root is True
        assert pod.security_context.seccomp_profile.type == "RuntimeDefault"
        assert pod.containers[0].security_context.allow_privilege_escalation is False
        assert pod.containers[0].security_context.capabilities.drop == ["ALL"]


def step_job(instance, asset: str, asked: Resources) -> "kubernetes.client.V1Job":
    """Return the job of one step, built as the step handler builds it from the asset's tags."""
    from dagster._core.test_utils import create_run_for_test
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import construct_dagster_k8s_job, get_user_defined_k8s_config

    run = create_run_for_test(instance, job_name="cross_validation")
    context = K8sContainerContext.create_for_run(run, instance.run_launcher, include_run_tags=False)
    tags = {resources.K8S_TAG: json.dumps(resources.for_kubernetes(asked))}
    context = context.merge(K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(tags)))
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(None, instance.run_launcher),
        args=["dagster", "api", "execute_step"],
        job_name=f"step-{asset.replace('_', '-')}",
        user_defined_k8s_config=context.run_k8s_config,
    )
    return validated(kubernetes.client.ApiClient().sanitize_for_serialization(job))


class TestAStep:
    def test_of_training_asks_for_its_gpu_as_request_and_limit(self, instance):
        asked = Resources(cpus=8, memory_gb=48, gpus=1)
        container = step_job(instance, "fold_model", asked).spec.template.spec.containers[0]
        assert container.resources.limits == {"memory": "49152Mi", "nvidia.com/gpu": "1"}
        assert container.resources.requests == {"cpu": "8000m", "memory": "49152Mi", "nvidia.com/gpu": "1"}
        assert container.security_context.capabilities.drop == ["ALL"], "sizes do not push the rules aside"

    def test_of_another_asset_asks_for_none(self, instance):
        asked = resources.of("labels", {})
        container = step_job(instance, "labels", asked).spec.template.spec.containers[0]
        assert "nvidia.com/gpu" not in {**container.resources.limits, **container.resources.requests}

    def test_bears_the_tags_of_its_asset_in_the_graph(self):
        for name in ("fold_model", "fold_volumes", "deid_dicom"):
            definition = build_definitions().resolve_assets_def(name)
            tags = definition.op.tags
            sent = tags[resources.K8S_TAG]
            sent = json.loads(sent) if isinstance(sent, str) else sent
            assert sent == resources.for_kubernetes(resources.of(name, {}))
            assert json.loads(tags[resources.RAY_TAG]) == resources.for_ray(resources.of(name, {}))

    def test_is_a_job_only_where_the_settings_name_a_cluster(self, cluster):
        settings = Settings().model_copy(update={"service": service_of(cluster)})
        heavy = build_definitions(settings).resolve_job_def("cross_validation")
        assert heavy.executor_def.name == "k8s"
        assert build_definitions(settings).resolve_job_def("ingest").executor_def.name != "k8s"


def documents():
    return [
        pytest.param(document, id=f"{path.name}:{document['kind']}:{document['metadata']['name']}")
        for path in MANIFESTS
        for document in yaml.safe_load_all(path.read_text())
    ]


MODELS = {"rbac.authorization.k8s.io/v1": "V1", "networking.k8s.io/v1": "V1", "apps/v1": "V1", "v1": "V1"}


class TestTheManifests:
    @pytest.mark.parametrize("document", documents())
    def test_are_what_the_api_knows(self, document):
        model = getattr(kubernetes.client, MODELS[document["apiVersion"]] + document["kind"])
        refuse_unknown_keys(document, model)
        kubernetes.client.ApiClient()._ApiClient__deserialize(document, model.__name__)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "ct-assets"

    def test_their_settings_file_is_one_that_the_platform_reads(self, tmp_path):
        from ct_assets.settings import load_settings

        (told,) = [
            param.values[0]
            for param in documents()
            if param.values[0]["metadata"]["name"] == "ct-assets-settings"
        ]
        path = tmp_path / "settings.yaml"
        path.write_text(told["data"]["settings.yaml"])
        settings = load_settings(path, environ={})
        assert settings.service.kubernetes is not None
        resources.refuse_unknown(settings.execution.resources, {"fold_model": 0, "final_model": 0})

    def test_name_only_what_they_or_the_operator_make(self):
        made = {(param.values[0]["kind"], param.values[0]["metadata"]["name"]) for param in documents()}
        made.add(("Secret", "ct-assets-secrets"))
        for param in documents():
            if param.values[0]["kind"] != "Deployment":
                continue
            pod = param.values[0]["spec"]["template"]["spec"]
            assert ("ServiceAccount", pod["serviceAccountName"]) in made
            for volume in pod["volumes"]:
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in made
                else:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in made
            role = pod["containers"][0]["command"][2]
            if role in PORTS:
                assert pod["containers"][0]["ports"][0]["containerPort"] == PORTS[role]

    def test_the_image_copies_what_is_there(self):
        dockerfile = (PROJECT_ROOT / "deploy/Dockerfile").read_text()
        for line in dockerfile.splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    assert (PROJECT_ROOT / source).exists(), source
