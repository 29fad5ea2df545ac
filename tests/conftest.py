import os
import sys
from pathlib import Path

import torch

# Without a GPU, Triton programs run in its interpreter; it has to know before anything imports it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

for folder in (".", "methods"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
