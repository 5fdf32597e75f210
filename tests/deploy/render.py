"""Writes deploy/kubernetes from the chart."""

import chart

chart.MANIFESTS.mkdir(exist_ok=True)
for name in chart.RENDERED:
    (chart.MANIFESTS / name).write_text(chart.manifest(name))
    print(f"deploy/kubernetes/{name}")
