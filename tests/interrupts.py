"""Processes that Ctrl-C reaches."""

import signal
import subprocess
from typing import Any


def start(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process that an interrupt ends, even where these tests run with interrupts ignored, as a shell's
    background jobs do.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)
