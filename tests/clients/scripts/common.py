"""What the tests with boto3 share: clients, functions to try, refusals to expect."""

import io
import json
import os
import re
import time
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ROLE = "arn:aws:iam::000000000000:role/r"
RUNTIME = os.environ["RUNTIME"]
# Long for what goes wrong: what goes well is over as soon as it can be.
LIMIT = 90
client = boto3.client("lambda", config=Config(read_timeout=120))
# One that lets the server judge what is wrong.
raw = boto3.client("lambda", config=Config(parameter_validation=False))

# The largest archive that AWS takes in a request.
ARCHIVE_MAX = 52_428_800
ECHO = "def handler(event, context):\n    return event\n"


def archive(code, name="app.py"):
    return archived({name: code})


def archived(files, mode=0o644):
    """A zip archive of files by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, content)
    return out.getvalue()


def create(name, code=ECHO, **more):
    args = dict(FunctionName=name, Runtime=RUNTIME, Role=ROLE, Handler="app.handler", Code={"ZipFile": archive(code)})
    made = client.create_function(**{**args, **more})
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return made


def updated(name):
    client.get_waiter("function_updated_v2").wait(FunctionName=name)


def everyone(name, **more):
    """Lets everyone call a function's URL, which AWS wants said besides AuthType NONE."""
    client.add_permission(FunctionName=name, StatementId="url", Action="lambda:InvokeFunctionUrl", Principal="*",
                          FunctionUrlAuthType="NONE", **more)


def call(name, payload=None, **more):
    answer = client.invoke(FunctionName=name, Payload=json.dumps(payload or {}), **more)
    return answer, json.loads(answer["Payload"].read() or "null")


def fails(code, status, message, action, *args, **more):
    """The error of an action that must be refused so."""
    try:
        action(*args, **more)
    except ClientError as error:
        told = error.response
        assert told["Error"]["Code"] == code, told
        assert told["ResponseMetadata"]["HTTPStatusCode"] == status, told
        assert re.search(message, told["Error"]["Message"]), told
        return error
    raise AssertionError(f"{code} was expected")


def until(what, holds):
    end = time.time() + LIMIT
    while not (found := holds()):
        assert time.time() < end, f"{what}: not within {LIMIT} s"
        time.sleep(0.1)
    return found


def http(url, method="GET", body=None, **headers):
    """Status, headers and body of what an address answers."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
