"""No method writes to its inputs, not even what they hold already: they may be a mapped file."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

# A process of its own, since one that writes to a file that is mapped to be read ends there.
MERGES = """
    import sys
    from pathlib import Path

    import torch
    from safetensors.torch import save_file
    from stockpot.merging.checks import SHAPES, CheckedMethod
    from stockpot.merging.registry import METHODS
    from stockpot.storage.weights.opening import open_source

    folder = Path(sys.argv[1])

    for number, shape in enumerate([*SHAPES, (70, 40)]):
        generator = torch.Generator().manual_seed(number)
        drawn = {str(n): torch.randn(shape, generator=generator) for n in range(4)}
        save_file(drawn, folder / f"{number}.safetensors")
        source = open_source(folder / f"{number}.safetensors")
        base, *tensors = map(source.read, drawn)
        for method in METHODS.values():
            print(method.name, shape, flush=True)
            checked = CheckedMethod(method, {"t": 0.4} if "t" in method.options else {})
            merged = checked.merge(tensors[: checked.num_models], base)
            own_base, *own = drawn.values()
            assert torch.equal(merged, checked.merge(own[: checked.num_models], own_base))
            merged.add_(1)  # what is returned is no part of an input
"""


def test_every_method_merges_files_that_are_mapped_to_be_read_only(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MERGES), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    last = ended.stdout.rpartition("\n")[0].rpartition("\n")[2]
    assert ended.returncode == 0, f"ended at {last}:\n{ended.stderr}"
