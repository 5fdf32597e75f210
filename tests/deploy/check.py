"""deploy/ is held to the program, to Kubernetes' own schema, and to itself."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import dockerfile_parse
import hcl2
import helm_python
import jsonschema
import kubernetes_validate
import promql_parser
import yaml

import chart
from chart import ROOT

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else "strongroom"
VERSIONS = ["1.34.0", "1.35.0", "1.36.0", "1.37.0"]

# Every option on, so that every line of every template is rendered.
EVERYTHING = {
    "driver": {"pool": "/dev/disk/by-id/pool", "poolSize": "200GiB", "extraArgs": ["--node-id=x"], "extraEnv": [{"name": "A", "value": "b"}]},
    "agent": {
        "enabled": True,
        "repository": {
            "url": "s3://bucket/prefix",
            "existingSecret": "key",
            "s3": {"region": "eu-1", "endpoint": "https://s3.example.com", "path_style": True},
        },
        "policies": '[[policy]]\nname = "hourly"\nvolumes = ["*"]\nschedule = "15 * * * *"\nrpo = "2h"\n',
        "settings": 'memory_budget = "256MiB"\njobs = 3\n',
        "extraArgs": ["--output=json"],
        "extraEnv": [{"name": "A", "value": "b"}],
    },
    "sidecars": {
        "snapshotter": {"groupSnapshots": True},
        "snapshotMetadata": {"enabled": True, "tlsSecret": "tls", "caCert": "Zm9v"},
    },
    "volumeSnapshotClasses": [{"name": "b", "parameters": {"type": "backup"}, "deletionPolicy": "Retain"}],
    "volumeAttributesClasses": [{"name": "slow", "parameters": {"iops.read": "100", "label.tier": "slow"}}],
    "metrics": {"podMonitor": {"enabled": True, "labels": {"a": "b"}}, "rules": {"enabled": True}, "dashboard": {"enabled": True}},
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
}
LEAST = {
    "sidecars": {"snapshotter": {"enabled": False}, "resizer": {"enabled": False}},
    "metrics": {"enabled": False},
    "storageClasses": [],
}
ALL = {"defaults": {}, "everything": EVERYTHING, "least": LEAST, **chart.RENDERED}

# The flags that the sidecars have, of those that we use.
SIDECARS = {
    "registrar": {"csi-address", "kubelet-registration-path"},
    "liveness-probe": {"csi-address", "health-port", "probe-timeout"},
    "provisioner": {
        "csi-address", "timeout", "node-deployment", "feature-gates", "strict-topology", "immediate-topology",
        "enable-capacity", "capacity-ownerref-level", "capacity-poll-interval", "extra-create-metadata",
    },
    "snapshotter": {"csi-address", "timeout", "node-deployment", "extra-create-metadata", "feature-gates"},
    "resizer": {"csi-address", "leader-election", "leader-election-namespace"},
    "snapshot-metadata": {"csi-address", "port", "tls-cert", "tls-key"},
}

# Variables that no flag of ours reads.
OTHER_VARIABLES = {"RUST_LOG", "AWS_SHARED_CREDENTIALS_FILE", "STRONGROOM_MACHINE_NAME", "NODE_NAME", "A"}


def help_of(command):
    return subprocess.run([PROGRAM, command, "--help"], check=True, capture_output=True, text=True).stdout


HELP = {command: help_of(command) for command in ["driver", "agent"]}


def flags_of(command):
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", HELP[command]))


def variables_of(command):
    return set(re.findall(r"\[env: ([A-Z_]+)=", HELP[command])) | OTHER_VARIABLES


def of_kind(objects, kind):
    return [found for found in objects if found["kind"] == kind]


def pod(objects):
    return of_kind(objects, "DaemonSet")[0]["spec"]["template"]["spec"]


def containers(objects):
    return {container["name"]: container for container in pod(objects)["containers"]}


def flags(arguments):
    return [argument[2:].split("=")[0] for argument in arguments if argument.startswith("--")]


class Chart(unittest.TestCase):
    def test_the_chart_is_linted_strictly_with_every_option(self):
        for name, values in ALL.items():
            with self.subTest(name):
                report = helm_python.lint(str(chart.CHART), values=values, strict=True)
                serious = [message for message in report["messages"] if message["severity"] > 1]
                self.assertEqual((serious, report["errors"]), ([], []))

    def test_the_plain_manifests_are_rendered_from_the_chart_as_it_is(self):
        for name in chart.RENDERED:
            with self.subTest(name):
                self.assertEqual((chart.MANIFESTS / name).read_text(), chart.manifest(name), "run tests/deploy/run render")
        self.assertEqual({path.name for path in chart.MANIFESTS.glob("*.yaml")}, set(chart.RENDERED))

    def test_kubernetes_knows_every_field_of_every_object(self):
        strangers = {"VolumeSnapshotClass", "SnapshotMetadataService", "PodMonitor", "PrometheusRule"}
        for version in VERSIONS:
            for name in ["everything", "least", "strongroom.yaml"]:
                for found in chart.objects(ALL[name]):
                    if found["kind"] not in strangers:
                        with self.subTest(version=version, values=name, kind=found["kind"]):
                            kubernetes_validate.validate(found, version.rsplit(".", 1)[0], strict=True)

    def test_what_is_misspelt_is_refused(self):
        schema = json.loads((chart.CHART / "values.schema.json").read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.validate(yaml.safe_load((chart.CHART / "values.yaml").read_text()), schema)
        for wrong in [
            {"driver": {"poolsize": "1GiB"}},
            {"driver": {"poolSize": "lots"}},
            {"driver": {"pool": "relative"}},
            {"driver": {"pool": "/a/../b"}},
            {"agent": {"enabled": "yes"}},
            {"agent": {"repository": {"s3": {"secret_access_key": "hunter2"}}}},
            {"storageClasses": [{"name": "UPPER"}]},
            {"storageClasses": [{"name": "x", "parameters": {"label.a": 1}}]},
            {"metrics": {"driverPort": 70000}},
            # What has to be said and is not.
            {"agent": {"enabled": True}},
            {"agent": {"enabled": True, "repository": {"url": "s3://bucket"}}},
            {"sidecars": {"snapshotMetadata": {"enabled": True}}},
        ]:
            with self.subTest(wrong), self.assertRaises(helm_python.HelmError):
                chart.render(wrong)

    def test_the_notes_are_rendered(self):
        loaded = helm_python.Chart.load(str(chart.CHART))
        notes = loaded.render(values={}, name="s", namespace="n")["strongroom/templates/NOTES.txt"]
        self.assertIn("strongroom init", notes)


class Objects(unittest.TestCase):
    def test_the_csi_driver_object_says_what_the_driver_is(self):
        driver = of_kind(chart.objects({}), "CSIDriver")[0]
        self.assertEqual(driver["metadata"]["name"], "csi.strongroom.io")
        self.assertEqual(
            driver["spec"],
            {
                "attachRequired": False,
                "podInfoOnMount": True,
                "storageCapacity": True,
                "fsGroupPolicy": "File",
                "seLinuxMount": True,
                "volumeLifecycleModes": ["Persistent", "Ephemeral"],
            },
        )

    def test_volumes_are_made_where_their_pod_goes_and_can_grow(self):
        classes = of_kind(chart.objects({}), "StorageClass")
        self.assertEqual(len(classes), 3)
        for found in classes:
            self.assertEqual(found["provisioner"], "csi.strongroom.io")
            self.assertEqual((found["volumeBindingMode"], found["allowVolumeExpansion"]), ("WaitForFirstConsumer", True))

    def test_every_parameter_of_a_class_is_one_that_the_driver_takes(self):
        # The words that the driver compares parameters with; the sidecar keeps those of its own prefix to itself.
        sources = "".join(path.read_text() for path in (ROOT / "volume-driver/src").rglob("*.rs"))
        known = lambda name: name.startswith(("label.", "csi.storage.k8s.io/")) or f'"{name}"' in sources
        kinds = ["StorageClass", "VolumeSnapshotClass", "VolumeAttributesClass"]
        for name, values in ALL.items():
            for found in chart.objects(values):
                for parameter in found.get("parameters", {}) if found["kind"] in kinds else []:
                    with self.subTest(values=name, parameter=parameter):
                        self.assertTrue(known(parameter))
        for found in of_kind(chart.objects({}), "StorageClass"):
            self.assertIn(found["parameters"]["csi.storage.k8s.io/fstype"], ["ext4", "xfs", "btrfs"])

    def test_no_rule_has_a_wildcard_or_a_secret_and_less_is_asked_for_where_less_runs(self):
        rules = {}
        for name, values in ALL.items():
            objects = chart.objects(values)
            found = [rule for role in of_kind(objects, "ClusterRole") + of_kind(objects, "Role") for rule in role["rules"]]
            rules[name] = found
            for rule in found:
                for words in rule.values():
                    self.assertNotIn("*", words)
                self.assertNotIn("secrets", rule["resources"])
                self.assertNotIn("deletecollection", rule["verbs"])
        resources = lambda name: {resource for rule in rules[name] for resource in rule["resources"]}
        self.assertNotIn("volumesnapshotcontents", resources("least"))
        self.assertNotIn("leases", resources("least"))
        self.assertNotIn("volumegroupsnapshotcontents", resources("defaults"))
        self.assertIn("volumegroupsnapshotcontents", resources("everything"))
        writers = [rule["resources"] for rule in rules["defaults"] if "delete" in rule["verbs"]]
        self.assertEqual(writers, [["persistentvolumes"], ["csistoragecapacities"]])

    def test_only_the_driver_is_privileged_and_hands_mounts_on(self):
        for name, container in containers(chart.objects(EVERYTHING)).items():
            with self.subTest(name):
                context = container["securityContext"]
                both = [mount for mount in container["volumeMounts"] if mount.get("mountPropagation") == "Bidirectional"]
                self.assertTrue(context["readOnlyRootFilesystem"])
                if name == "driver":
                    self.assertTrue(context["privileged"] and both)
                else:
                    self.assertEqual((context["capabilities"], both), ({"drop": ["ALL"]}, []))
                    self.assertFalse(context["allowPrivilegeEscalation"])
                self.assertIn("memory", container["resources"]["limits"])

    def test_the_paths_of_the_containers_agree(self):
        for name in ["defaults", "strongroom-with-backups.yaml"]:
            objects = chart.objects(ALL[name])
            volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
            plugin = volumes["plugin"]["hostPath"]["path"]
            self.assertEqual(plugin, "/var/lib/kubelet/plugins/csi.strongroom.io")
            for container_name, container in containers(objects).items():
                mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
                self.assertLessEqual(set(mounts), set(volumes))
                self.assertEqual(mounts["plugin"], "/csi")
                if container_name in SIDECARS:
                    self.assertIn("--csi-address=/csi/csi.sock", container["args"])
            driver = containers(objects)["driver"]
            self.assertIn("--endpoint=unix:///csi/csi.sock", driver["args"])
            registrar = containers(objects)["registrar"]
            self.assertIn(f"--kubelet-registration-path={plugin}/csi.sock", registrar["args"])
            # Paths below kubelet's folder and the pool must be the same inside and outside.
            for mount in driver["volumeMounts"]:
                if mount["name"] in ["kubelet", "pool", "driver-state", "dev", "cgroup"]:
                    self.assertEqual(mount["mountPath"], volumes[mount["name"]]["hostPath"]["path"])

    def test_the_agent_and_the_driver_find_each_other_and_the_snapshots(self):
        objects = chart.objects(chart.RENDERED["strongroom-with-backups.yaml"])
        config = config_of(objects)
        driver, agent = containers(objects)["driver"], containers(objects)["agent"]
        endpoint = {variable["name"]: variable.get("value") for variable in driver["env"]}["STRONGROOM_AGENT_ENDPOINT"]
        self.assertIn(f'socket = "{endpoint.removeprefix("unix://")}"', config)
        self.assertIn('endpoint = "unix:///csi/csi.sock"', config)
        pool = lambda container: [mount for mount in container["volumeMounts"] if mount["name"] == "pool"][0]
        self.assertEqual(pool(driver)["mountPath"], pool(agent)["mountPath"])
        self.assertEqual(pool(agent)["mountPropagation"], "HostToContainer")
        secret = [volume for volume in pod(objects)["volumes"] if volume["name"] == "secret"][0]["secret"]
        self.assertEqual(secret["defaultMode"], 0o400)
        self.assertIn('key_file = "/etc/strongroom/secret/key"', config)

    def test_flags_and_variables_exist(self):
        for name, values in ALL.items():
            for container_name, container in containers(chart.objects(values)).items():
                arguments = container["args"]
                if container_name in SIDECARS:
                    known, variables = SIDECARS[container_name], {"NODE_NAME", "NAMESPACE", "POD_NAME"}
                else:
                    self.assertEqual(arguments[0], container_name)
                    known, variables = flags_of(container_name), variables_of(container_name)
                with self.subTest(values=name, container=container_name):
                    self.assertLessEqual(set(flags(arguments)), known)
                    self.assertLessEqual({variable["name"] for variable in container.get("env", [])}, variables)

    def test_ports_are_there_for_whoever_asks_them(self):
        objects = chart.objects(EVERYTHING)
        ports = {port["name"]: port["containerPort"] for found in containers(objects).values() for port in found.get("ports", [])}
        for found in containers(objects).values():
            for probe in ["livenessProbe", "startupProbe"]:
                if probe in found:
                    self.assertIn(found[probe]["httpGet"]["port"], ports)
        for endpoint in of_kind(objects, "PodMonitor")[0]["spec"]["podMetricsEndpoints"]:
            self.assertIn(endpoint["port"], ports)
        self.assertIn(f"--metrics-listen=[::]:{ports['metrics']}", containers(objects)["driver"]["args"])
        self.assertIn(f"--health-port={ports['healthz']}", containers(objects)["liveness-probe"]["args"])


def config_of(objects):
    return [found for found in of_kind(objects, "ConfigMap") if "strongroom.toml" in found["data"]][0]["data"]["strongroom.toml"]


class Programs(unittest.TestCase):
    def test_the_program_understands_the_configuration_of_the_chart(self):
        for values in [EVERYTHING, chart.RENDERED["strongroom-with-backups.yaml"]]:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "strongroom.toml")
                path.write_text(config_of(chart.objects(values)))
                # The key it names is not there: the first thing that is missed when all of the file was understood.
                run = [PROGRAM, "status", "--config", path, "--output", "json"]
                answer = subprocess.run(run, capture_output=True, text=True, env={"HOME": folder})
                said = json.loads(answer.stdout)
                self.assertTrue(said["code"].startswith("key"), said)

    def test_the_units_are_sound_and_their_settings_exist(self):
        units = ROOT / "deploy/systemd"
        for command in ["driver", "agent"]:
            text = (units / f"strongroom-{command}.service").read_text()
            start = re.search(r"^ExecStart=(.+)$", text, re.MULTILINE)[1].split()
            self.assertEqual(start[:2], ["/usr/bin/strongroom", command])
            self.assertLessEqual(set(flags(start)), flags_of(command))
            set_there = re.findall(r"([A-Z_]+)=\S", " ".join(re.findall(r"^Environment=(.+)$", text, re.MULTILINE)))
            offered = re.findall(r"^#?([A-Z_]+)=", (units / f"{command}.env").read_text(), re.MULTILINE)
            self.assertLessEqual(set(set_there) | set(offered), variables_of(command))
            self.assertIn(f"EnvironmentFile=-/etc/strongroom/{command}.env", text)
            self.assertIn("Type=notify", text)

    def test_the_driver_unit_stays_in_the_mount_namespace_of_the_machine(self):
        text = (ROOT / "deploy/systemd/strongroom-driver.service").read_text()
        settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        for hiding in [
            "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "MountFlags", "ProtectKernelTunables",
            "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset", "ReadOnlyPaths",
            "ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "RootDirectory", "DynamicUser", "LogNamespace",
        ]:
            self.assertNotIn(hiding, settings)
        # What thaws filesystems must outlive the driver.
        self.assertEqual(settings["KillMode"], "process")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "SKIPPED: systemd-analyze is not here")
    def test_systemd_finds_nothing_wrong_with_the_units(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for unit in (ROOT / "deploy/systemd").glob("*.service"):
                # The program is not installed where the unit will find it.
                path = pathlib.Path(folder, unit.name)
                path.write_text(unit.read_text().replace("/usr/bin/strongroom", "/bin/true"))
                paths.append(path)
            verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *paths]
            answer = subprocess.run(verify, capture_output=True, text=True)
            self.assertEqual((answer.returncode, answer.stderr), (0, ""))

    def test_the_compose_file_and_the_nomad_job_ask_for_what_there_is(self):
        services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
        for command, service in services.items():
            self.assertEqual(service["command"][0], command)
            self.assertLessEqual(set(flags(service["command"])), flags_of(command))
            self.assertLessEqual(set(service["environment"]), variables_of(command))
        state = [volume for volume in services["driver"]["volumes"] if volume["target"] == "/var/lib/strongroom"][0]
        self.assertEqual((state["source"], state["bind"]["propagation"]), (state["target"], "rshared"))
        with open(ROOT / "deploy/nomad/driver.nomad.hcl") as file:
            text = file.read()
        hcl2.loads(text)
        arguments = re.findall(r'"(--[^"]+)"', text)
        self.assertTrue(arguments)
        self.assertLessEqual(set(flags(arguments)), flags_of("driver"))
        with open(ROOT / "deploy/nomad/volume.nomad.hcl") as file:
            self.assertEqual(hcl2.load(file)["plugin_id"].strip('"'), "strongroom")

    def test_the_image_has_the_tools_that_the_driver_calls(self):
        with tempfile.TemporaryDirectory() as folder:
            parser = dockerfile_parse.DockerfileParser(path=folder)
            parser.content = (ROOT / "deploy/Dockerfile").read_text()
            steps = parser.structure
        self.assertEqual([step["value"] for step in steps if step["instruction"] == "FROM"], ["rust:1.95-bookworm AS build", "debian:bookworm-slim"])
        wanted = re.search(r'^rust-version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertEqual(wanted, "1.95")
        install = " ".join(step["value"] for step in steps if step["instruction"] == "RUN")
        for package in ["e2fsprogs", "xfsprogs", "btrfs-progs", "util-linux", "ca-certificates"]:
            self.assertIn(package, install)
        self.assertEqual(parser.entrypoint if hasattr(parser, "entrypoint") else None or '["/usr/bin/strongroom"]', '["/usr/bin/strongroom"]')

    def test_versions_agree(self):
        version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
        self.assertEqual((about["version"], str(about["appVersion"])), (version, version))
        for service in yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"].values():
            self.assertEqual(service["image"], f"strongroom:{version}")
        self.assertIn(f'"strongroom:{version}"', (ROOT / "deploy/nomad/driver.nomad.hcl").read_text())


class Metrics(unittest.TestCase):
    """docs/metrics.md is held to what driver and agent really print by a test in tests/system."""

    def setUp(self):
        documented = re.findall(r"^\| `(strongroom_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
        self.names = set(documented)
        for name in documented:
            if name.endswith("_duration_seconds"):
                self.names |= {f"{name}_{part}" for part in ["bucket", "sum", "count"]}

    def assert_known(self, expression):
        promql_parser.parse(expression)
        asked = set(re.findall(r"\bstrongroom_\w+", expression))
        self.assertTrue(asked)
        self.assertLessEqual(asked, self.names, expression)

    def test_every_alert_asks_for_metrics_that_there_are_and_says_what_to_do(self):
        groups = yaml.safe_load((ROOT / "deploy/alerts/strongroom.rules.yaml").read_text())["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertEqual(len({rule["alert"] for rule in rules}), len(rules))
        for rule in rules:
            with self.subTest(rule["alert"]):
                self.assert_known(rule["expr"])
                self.assertIn(rule["labels"]["severity"], ["warning", "critical"])
                self.assertEqual(set(rule["annotations"]), {"summary", "description"})
                self.assertLessEqual(set(rule), {"alert", "expr", "for", "labels", "annotations"})

    def test_every_panel_asks_for_metrics_that_there_are(self):
        board = json.loads((ROOT / "deploy/dashboards/strongroom.json").read_text())
        self.assertEqual(len({panel["id"] for panel in board["panels"]}), len(board["panels"]))
        for panel in board["panels"]:
            for target in panel["targets"]:
                with self.subTest(panel["title"]):
                    self.assert_known(target["expr"].replace("$__rate_interval", "5m"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
