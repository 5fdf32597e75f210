"""From figures to tables: medians of the rounds, ratios to restic, and what the issue asked for beside what was measured."""

import pathlib
import re
import statistics

STEPS = {"image": ("first", "unchanged", "changed", "restore", "restore, compared", "restore over the image before", "check"),
         "driver": ("first", "changed", "unchanged", "unchanged, mounted", "restore to a file", "restore in place"), "postgres": ("first", "changed", "restore"), "bucket": ("first", "unchanged", "changed", "restore"), "empty": ("first", "changed", "restore, compared")}
TITLES = {"image": "An ext4 image of {size}, then 1 % of its blocks changed and 50 MiB of new files; every engine gets the image as a file",
          "driver": "The same content in a volume of the driver, which says what changed",
          "postgres": "An ext4 image with a PostgreSQL data folder after `pgbench -i`, then after 10,000 transactions",
          "bucket": "The same image into a bucket of a real S3 server on this machine (Ceph radosgw, which takes its part of the two processors): requests of all kinds",
          "empty": "An ext4 image of 1 TiB with 64 MiB in it, then with 16 MiB more (an engine that needs more than a minute is stopped)"}


class Medians:
    def __init__(self, figures):
        self.figures = figures

    def of(self, data, engine, step, field):
        values = [one[field] for one in self.figures if (one["data"], one["engine"], one["step"]) == (data, engine, step) and one.get(field) is not None and not one.get("late")]
        return statistics.median(values) if values else None

    def spread(self, data, engine, step, field):
        values = [one[field] for one in self.figures if (one["data"], one["engine"], one["step"]) == (data, engine, step) and one.get(field) is not None]
        return (min(values), max(values)) if values else None

    def late(self, data, engine, step):
        return any(one.get("late") for one in self.figures if (one["data"], one["engine"], one["step"]) == (data, engine, step))

    def engines(self, data):
        names = []
        for one in self.figures:
            if one["data"] == data and one["engine"] not in names:
                names.append(one["engine"])
        return sorted(names, key=lambda name: (name != "strongroom", name))


def number(value, digits=1):
    return "" if value is None else f"{value:,.{digits}f}" if digits else f"{value:,.0f}"


def rows(heads, body):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(str(cell) for cell in cells) + " |" for cells in body]


def table_of(data, medians):
    body = []
    for step in STEPS[data]:
        for engine in medians.engines(data):
            if medians.late(data, engine, step):
                body.append((step, engine, "stopped after 60", "", "", "", "", "", ""))
                continue
            wall = medians.of(data, engine, step, "wall")
            if wall is None:
                continue
            least, most = medians.spread(data, engine, step, "wall")
            cpu = medians.of(data, engine, step, "cpu")
            restic = medians.of(data, "restic", step, "cpu")
            requests = medians.of(data, engine, step, "requests")
            body.append((step, engine, f"{number(wall, 2)} ({number(least, 2)} to {number(most, 2)})", number(cpu, 2), number(cpu / restic, 2) if restic else "",
                         number(medians.of(data, engine, step, "peak_mib"), 0), number(medians.of(data, engine, step, "new_mib")), number(medians.of(data, engine, step, "objects"), 0), number(requests, 0)))
    return rows(("work", "engine", "wall s (least to most)", "CPU s", "CPU / restic's", "peak MiB", "MiB stored", "objects", "requests"), body)


def targets(medians, size_mib):
    """What the issue asked for, line by line."""
    def ours(data, step, field):
        return medians.of(data, "strongroom", step, field)

    def ratio(mine, theirs):
        return mine / theirs if mine is not None and theirs else None

    def restic(step, field):
        return medians.of("image", "restic", step, field)

    lines = []

    def line(work, what, limit, value, digits=2, unit=""):
        if value is not None:
            lines.append((work, what, f"{number(limit, digits)}{unit}", f"{number(value, digits)}{unit}", "yes" if value <= limit else "**no**"))

    def below(work, step, field, peers):
        mine = ours("image", step, field)
        for peer in peers:
            theirs = medians.of("image", peer, step, field)
            if mine is not None and theirs:
                lines.append((work, f"{'CPU' if field == 'cpu' else 'wall'} below {peer}'s", number(theirs, 2) + " s", number(mine, 2) + " s", "yes" if mine < theirs else "**no**"))

    others = [name for name in medians.engines("image") if name not in ("strongroom", "restic", "borg 64 KiB", "rustic 64 KiB")]
    line("first backup", "CPU / restic's", 0.45, ratio(ours("image", "first", "cpu"), restic("first", "cpu")))
    line("first backup", "wall / restic's", 0.5, ratio(ours("image", "first", "wall"), restic("first", "wall")))
    below("first backup", "first", "cpu", others)
    below("first backup", "first", "wall", others)
    line("first backup", "stored / restic's", 1.06, ratio(ours("image", "first", "new_mib"), restic("first", "new_mib")))
    line("after 1 % changes, as a file", "CPU / restic's", 0.22, ratio(ours("image", "changed", "cpu"), restic("changed", "cpu")))
    line("after 1 % changes, as a file", "new bytes / restic's", 0.27, ratio(ours("image", "changed", "new_mib"), restic("changed", "new_mib")))
    below("after 1 % changes, as a file", "changed", "cpu", ["rustic 64 KiB"])
    line("after 1 % changes, by the driver", "CPU / restic's", 0.05, ratio(ours("driver", "changed", "cpu"), restic("changed", "cpu")))
    line("after 1 % changes, by the driver", "new bytes / bytes written", 1.6, ratio(ours("driver", "changed", "new_mib"), ours("driver", "changed", "written_mib")))
    wall = ours("driver", "unchanged", "wall")
    line("unchanged, by the driver", "wall", 100, wall * 1000 if wall is not None else None, 0, " ms")
    line("unchanged, by the driver", "MiB read", 0, ours("driver", "unchanged", "scanned_mib"), 1)
    line("unchanged, by the driver", "requests", 5, ours("driver", "unchanged", "requests"), 0)
    line("restore", "CPU / restic's", 0.4, ratio(ours("image", "restore", "cpu"), restic("restore", "cpu")))
    line("restore", "wall / restic's", 0.45, ratio(ours("image", "restore", "wall"), restic("restore", "wall")))
    below("restore", "restore", "cpu", ["bupstash"])
    below("restore", "restore", "wall", ["bupstash"])
    line("restore", "allocated / read of the source", 1.02, ratio(ours("image", "restore", "allocated_mib"), medians.of("image", "bupstash", "restore", "allocated_mib")))
    line("restore in place after 1 %", "wall / full restore's", 0.1, ratio(ours("driver", "restore in place", "wall"), ours("driver", "restore to a file", "wall")))
    line("check --read-data", "CPU / restic's", 0.25, ratio(ours("image", "check", "cpu"), restic("check", "cpu")))
    peaks = [one["peak_mib"] for one in medians.figures if one["engine"] == "strongroom" and one.get("peak_mib") is not None]
    line("any of these", "peak memory", 160, max(peaks, default=None), 0, " MiB")
    objects, new = ours("image", "first", "objects"), size_mib * 0.7 / 1024
    line("first backup", "objects put, per new GiB", 20, objects / new if objects else None, 1)
    requests = ours("bucket", "first", "requests")
    line("first backup into a bucket", "requests of all kinds, per new GiB", 20, requests / new if requests else None, 1)
    return rows(("work", "what", "asked for", "measured", "met"), lines)


def written(figures, size_mib, machine, versions):
    medians = Medians(figures)
    size = f"{size_mib / 1024:g} GiB"
    loads = [one["load"] for one in figures] or [0]
    lines = [f"Measured by `benches/engines` with {', '.join(versions)}; {machine}; load of the machine {min(loads)} to {max(loads)}. Medians.", "", "### What was asked for", "", *targets(medians, size_mib)]
    for data, title in TITLES.items():
        if medians.engines(data):
            lines += ["", "### " + title.format(size=size), "", *table_of(data, medians)]
    return "\n".join(lines) + "\n"


def put_into(page, name, text):
    """Replaces what stands between the marks of `name`."""
    begin, end = f"<!-- {name}: written by make bench -->", f"<!-- {name}: end -->"
    page = pathlib.Path(page)
    old = page.read_text()
    if begin not in old:
        raise SystemExit(f"{page} has no place for {name}")
    page.write_text(re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{text}{end}", old, flags=re.DOTALL))
