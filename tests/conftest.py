import sys
from pathlib import Path

for folder in (".", "methods"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
