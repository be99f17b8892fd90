#!/usr/bin/python3 -I
"""A boot program without attestation or encryption; a file in the image says how it behaves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

REFUSAL = {
    "code": "sealed-manifest-refused",
    "stage": "mount",
    "summary": "it is not the image",
    "remedy": "do not trust this host",
}


def main() -> None:
    control = os.fdopen(3, "r+b", buffering=0)
    line = b""
    while not line.endswith(b"\n"):
        part = control.read(4096)
        if not part:
            return
        line += part
    order = json.loads(line)

    def say(message: object) -> None:
        control.write(json.dumps(message).encode() + b"\n")

    behaviour = Path(order["sealed_image"], "behaviour").read_text()
    if behaviour == "dies":
        sys.exit(3)
    if behaviour == "refuses":
        say({"error": REFUSAL})
        sys.exit(1)
    runc = [order["runc"], "--root", order["runc_root"], "--log", order["runc_log"], "--log-format", "json"]
    say({"pid": create(order, runc)})
    if behaviour == "poisoned":
        say({"event": "poisoned", "code": "sealed-chunk-refused"})
    control.read(4096)
    subprocess.run([*runc, "delete", "--force", order["container_id"]], check=False)
    subprocess.run(["umount", order["rootfs"]], check=False)


def create(order: dict, runc: list[str]) -> int:
    rootfs, work = Path(order["rootfs"]), Path(order["work"])
    rootfs.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", f"{order['sealed_image']}/rootfs", rootfs], check=True)
    spec = json.loads(Path(order["bundle"], "config.json").read_text())
    spec["root"] = {"path": str(rootfs)}
    (work / "config.json").write_text(json.dumps(spec))
    command = [*runc, "create", "--bundle", str(work), "--pid-file", order["pid_file"]]
    streams = {}
    if order["console_socket"]:
        command += ["--console-socket", order["console_socket"]]
    else:
        streams = {"stdin": 4, "stdout": 5, "stderr": 6}
    subprocess.run([*command, order["container_id"]], check=True, **streams)
    for descriptor in (4, 5, 6):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return int(Path(order["pid_file"]).read_text())


main()
