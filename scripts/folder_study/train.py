"""The program that fuzz_folders.py studies: a few numbers by formula. The trial whose seed FUZZ_WAIT holds waits."""

from __future__ import annotations

import json
import os
import sys
import time

rate, width, seed = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for step in range(0, 50, 10):
    if step == 30 and os.environ.get("FUZZ_WAIT") == sys.argv[3]:
        time.sleep(60.0)
    error = 1.0 / (1.0 + step * rate * width) + seed % 97 * 1e-4
    print(json.dumps({"step": step, "valid/error": error, "train/loss": 2.0 / (1.0 + step * rate)}), flush=True)
