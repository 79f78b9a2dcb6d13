"""The program that fuzz_folders.py studies: a few numbers by formula. The trial whose seed FUZZ_WAIT holds waits."""

from __future__ import annotations

import json
import math
import os
import sys
import time

rate, width, seed = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
last = int(sys.argv[4]) if len(sys.argv) > 4 else 40
off = math.log10(rate / float(sys.argv[5])) if len(sys.argv) > 5 else 0.0
for step in range(0, last + 10, 10):
    if step == 30 and os.environ.get("FUZZ_WAIT") == sys.argv[3]:
        time.sleep(60.0)
    error = 1.0 / (1.0 + step * rate * width) + seed % 97 * 1e-4 + 0.1 * off**2
    print(json.dumps({"step": step, "valid/error": error, "train/loss": 2.0 / (1.0 + step * rate)}), flush=True)
