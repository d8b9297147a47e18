import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = """if True:
    import resource, sys
    import numpy as np
    from src import memory
    if sys.argv[1] == "keep":
        memory.keep_freed()
    for _ in range(50):
        np.ones(8_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is meant")
def test_freed_memory_is_not_given_back_and_cleared_again():
    assert resource.getpagesize() == 4096
    faults = {}
    for way in ("keep", "as it is"):
        ended = subprocess.run(
            [sys.executable, "-c", FAULTS, way], cwd=ROOT, capture_output=True, text=True, check=True
        )
        faults[way] = int(ended.stdout)
    assert faults["keep"] < faults["as it is"] / 3


TRIMMED = """if True:
    import re
    from pathlib import Path
    import numpy as np
    from src import memory
    def resident():
        return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    memory.keep_freed()
    blocks = [np.ones(1_000_000) for _ in range(20)]
    del blocks
    before = resident()
    memory.trim()
    print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is meant")
def test_what_is_kept_can_be_given_back():
    ended = subprocess.run([sys.executable, "-c", TRIMMED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(ended.stdout) > 100  # MB of 160
