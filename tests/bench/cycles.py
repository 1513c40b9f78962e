"""Load and unload a small model a thousand times; prints how much the process grew.

python tests/bench/cycles.py [COUNT]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.gguf import tiny_llama
from support.models import source_of

from pannier.runtime.request import LoadOptions
from pannier.runtime.supervisor import Supervisor


def resident() -> float:
    """MB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder, Supervisor() as supervisor:
        source = source_of(tiny_llama(Path(folder) / "tiny.gguf"))
        options = LoadOptions(num_ctx=256, num_thread=1)
        for number in range(count):
            supervisor.load(source, options=options)
            supervisor.unload(source.digest)
            if number == 20:
                start = resident()
        print(f"{count} cycles: {start:.1f} MB → {resident():.1f} MB")


if __name__ == "__main__":
    main()
