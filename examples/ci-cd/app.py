"""Tests and deploys what is pushed to a repository: a signed webhook of GitHub rouses it, and nothing runs in between."""

import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
import zipfile

# git wants a home; nothing of the caller's or the machine's settings is to count.
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/tmp",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


def handler(event, context):
    push = json.loads(event["body"])
    commit = push["after"]
    # The platform has checked the signature. What is cloned is still ours to say, not the event's.
    with tempfile.TemporaryDirectory() as folder:
        checkout = pathlib.Path(folder)
        run(checkout, "git", "clone", "--quiet", os.environ["REPOSITORY"], ".")
        run(checkout, "git", "checkout", "--quiet", "--detach", commit)
        # Tests see none of our secrets: ENVIRONMENT is all that they get.
        run(checkout, sys.executable, "-m", "unittest", "discover", "--start-directory", ".")
        deployment = deploy(checkout, commit)
    print(f"deployed {commit} as number {deployment['number']}")
    return {"commit": commit, "deployment": deployment["number"]}


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)
    print(done.stdout + done.stderr, end="")
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr[-2000:]}")


def deploy(folder, commit):
    manifest = tomllib.loads((folder / "rouse.toml").read_text())
    functions = []
    for name, settings in manifest["functions"].items():
        code = zipped(folder / settings["source"])
        digest = "sha256:" + hashlib.sha256(code).hexdigest()
        request("PUT", f"/v1/blobs/{digest}", code, "application/octet-stream")
        runtime = settings.get("runtime", f"python3.{sys.version_info.minor}")
        functions.append(
            {
                "name": name,
                "code": digest,
                "runtime": runtime,
                "handler": settings["handler"],
                "isolation": "container",
                "invoke": settings.get("invoke", "tenant"),
            }
        )
    path = f"/v1/tenants/{os.environ['TENANT']}/apps/{manifest['app']['name']}/deployments"
    wanted = json.dumps({"functions": functions, "message": f"commit {commit}"}).encode()
    # One line for each step; the last says how it ended.
    last = json.loads(request("POST", path, wanted, "application/json").splitlines()[-1])
    if last["event"] != "live":
        raise RuntimeError(f"not deployed: {last}")
    return last["deployment"]


def zipped(folder):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and ".git" not in file.parts and "__pycache__" not in file.parts:
                # Without times, so that the same code has the same digest.
                archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())
    return buffer.getvalue()


def request(method, path, body, content_type):
    asked = urllib.request.Request(os.environ["CONTROL"] + path, data=body, method=method)
    asked.add_header("authorization", f"Bearer {os.environ['TOKEN'].strip()}")
    asked.add_header("content-type", content_type)
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return answer.read().decode()
