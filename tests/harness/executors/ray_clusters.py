"""Ray clusters of several nodes on this machine, and a plug-in whose workers die."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_health_check_initial_delay_ms": "0",  # a node that is gone is noticed in two seconds
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}
PLUGIN = '''
"""A method that takes its process with it."""
import os
from deltamem_eval.methods.vanilla import Vanilla

class Deadly(Vanilla):
    name = "deadly"

    def write(self, chunk):
        if "2 of 1" in chunk.text:
            os._exit(7)
        super().write(chunk)
'''
ENTRIES = "[deltamem_eval.methods]\ndeadly = deadly_plugin:Deadly\n"


def needs_ray() -> None:
    """Skip where ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'deltamem-eval[ray]'")


@contextmanager
def cluster(nodes: int, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> Iterator[Any]:
    """A cluster of so many nodes of one core each, the head among them; workers import from `paths`."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    found = [*map(str, paths), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in found if part))
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        for _ in range(nodes - 1):
            made.add_node(**NODE)
        yield made
    finally:
        made.shutdown()


def deadly_plugin(folder: Path) -> Path:
    """A folder that brings the method `deadly`, as an installed package would."""
    (folder / "deadly_plugin.py").write_text(PLUGIN)
    told = folder / "deadly_plugin-1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly-plugin\nVersion: 1\n")
    (told / "entry_points.txt").write_text(ENTRIES)
    return folder
