"""Runs inside the virtual machine: takes commands from the test over a virtio port, one JSON object to a line."""

import json
import os
import pwd
import subprocess
import time
from pathlib import Path

PORT = "/dev/virtio-ports/sneaker.agent"


def run(request: dict) -> dict:
    user = pwd.getpwnam(request.get("user", "root"))
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": user.pw_dir,
        "LANG": "C.UTF-8",
        "XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}",
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{user.pw_uid}/bus",
    }
    try:
        done = subprocess.run(
            request["argv"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=request.get("timeout", 60),
            env=environment,
            cwd=user.pw_dir,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            check=False,
        )
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"code": -1, "out": "", "err": repr(error)}


def main() -> None:
    while not Path(PORT).exists():
        time.sleep(0.1)
    port = os.open(PORT, os.O_RDWR)
    data = b""
    while True:
        more = os.read(port, 65536)
        if not more:  # nobody is connected
            time.sleep(0.05)
            continue
        data += more
        while b"\n" in data:
            line, data = data.split(b"\n", 1)
            request = json.loads(line)
            answer = memoryview(json.dumps({"id": request["id"], **run(request)}).encode() + b"\n")
            while answer:
                answer = answer[os.write(port, answer) :]


main()
