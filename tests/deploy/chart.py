"""The chart, rendered by Helm itself: helm-python-sdk is Helm 4 as a library, without a cluster."""

import functools
import json
import pathlib

import helm_python
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/strongroom"
MANIFESTS = ROOT / "deploy/kubernetes"

# What deploy/kubernetes is rendered with: file name, then values. Everything else is the chart's own.
RENDERED = {
    "strongroom.yaml": {},
    "strongroom-with-backups.yaml": {
        "agent": {
            "enabled": True,
            "repository": {"url": "s3://my-bucket/strongroom", "existingSecret": "strongroom-repository"},
        },
        # Snapshots that are recovery points: kept in the repository, whatever becomes of the node.
        "volumeSnapshotClasses": [
            {"name": "strongroom", "default": True, "deletionPolicy": "Delete"},
            {"name": "strongroom-backup", "deletionPolicy": "Retain", "parameters": {"type": "backup"}},
        ],
    },
}

NAMESPACE = "strongroom"


def render(values):
    """The manifests as one text, in the order of the chart's files."""
    return _rendered(json.dumps(values, sort_keys=True))


@functools.cache
def _rendered(values):
    values = json.loads(values)
    chart = helm_python.Chart.load(str(CHART))
    files = chart.render(values=values, name="strongroom", namespace=NAMESPACE)
    parts = []
    for name in sorted(files):
        if name.endswith("NOTES.txt"):
            continue
        for part in ("\n" + files[name]).split("\n---"):
            if yaml.safe_load(part) is not None:
                parts.append(part.strip("\n") + "\n")
    return "---\n".join(parts)


def objects(values):
    return json.loads(_parsed(json.dumps(values, sort_keys=True)))


@functools.cache
def _parsed(values):
    return json.dumps(list(yaml.safe_load_all(_rendered(values))))


def manifest(name):
    head = (
        f"# Rendered from deploy/helm/strongroom by tests/deploy/run render: change the chart, not this file.\n"
        f"#\n#   kubectl apply -f deploy/kubernetes/{name}\n---\n"
        f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"
        f"  labels: {{pod-security.kubernetes.io/enforce: privileged}}\n---\n"
    )
    return head + render(RENDERED[name])
