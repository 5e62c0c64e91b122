"""A node of the package in a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from unirestore_ros.msgs.transport import profile_variable

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = REPOSITORY / "config" / "fastdds.xml"
END_LIMIT_S = 60.0


class NodeProcess:
    """`restore_node`, or the node of another command, with the shared-memory profile."""

    def __init__(
        self,
        namespace: str,
        log: Path,
        *parameters: str,
        command: str = "restore_node",
        remappings: tuple[str, ...] = (),
        **environment: str,
    ) -> None:
        self.namespace = namespace
        self.log = log
        words = [sys.executable, "-m", "unirestore_ros", command, "--ros-args"]
        words += ["-r", f"__ns:={namespace}"]
        words += [word for pair in remappings for word in ("-r", pair)]
        # Test bundles make negatives, which the guard would refuse.
        if command == "restore_node" and not any(p.startswith("guard:=") for p in parameters):
            parameters = (*parameters, "guard:=false")
        # ONNX Runtime refuses what their damaged graphs compute; OpenVINO computes on.
        if command == "restore_node" and not any(p.startswith("backend:=") for p in parameters):
            parameters = (*parameters, "backend:=onnxruntime")
        words += [word for pair in parameters for word in ("-p", pair)]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                words,
                cwd=REPOSITORY,
                env={**os.environ, profile_variable(): str(PROFILE), **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
