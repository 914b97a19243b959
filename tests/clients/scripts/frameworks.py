"""Frameworks that people write functions with, inside functions that boto3 makes: one function each; the first argument says
which. PACKAGES names the folder where pip or npm installed them."""

import json
import os
import pathlib
import subprocess
import sys

import boto3

from common import ARCHIVE_MAX, archived, client, create, everyone, http, until

PACKAGES = pathlib.Path(os.environ["PACKAGES"])


def with_packages(code, name, below=""):
    """An archive of code and of all that is installed beside it, as `pip install --target` would have it."""
    left_out = {"pip", "setuptools", "pkg_resources", "_distutils_hack", "__pycache__", ".bin"}
    files = {name: code}
    for path in PACKAGES.rglob("*"):
        own = path.relative_to(PACKAGES)
        if path.is_file() and not path.is_symlink() and not left_out & set(own.parts):
            files[below + str(own)] = path.read_bytes()
    made = archived(files)
    assert len(made) < ARCHIVE_MAX, len(made)
    return made


def url(name):
    everyone(name)
    return client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]


def an_asgi_app_answers_behind_a_function_url_by_mangum():
    code = """from mangum import Mangum
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

async def greet(request):
    answer = JSONResponse({"hello": request.path_params["name"], "loud": request.query_params.get("loud"),
                           "seen": request.cookies.get("seen"), "from": request.client.host})
    answer.set_cookie("seen", "yes")
    answer.set_cookie("more", "1")
    return answer

async def echo(request):
    return Response(await request.body(), status_code=201, media_type=request.headers["content-type"])

handler = Mangum(Starlette(routes=[Route("/greet/{name}", greet), Route("/echo", echo, methods=["POST"])]), lifespan="off")
"""
    create("asgi", Code={"ZipFile": with_packages(code, "app.py")}, MemorySize=512, Timeout=30)
    address = url("asgi")
    status, headers, body = http(address + "greet/you%20all?loud=1", Cookie="seen=before")
    assert (status, json.loads(body)) == (200, {"hello": "you all", "loud": "1", "seen": "before", "from": "127.0.0.1"}), body
    assert [cookie.split(";")[0] for cookie in headers.get_all("set-cookie")] == ["seen=yes", "more=1"], headers
    status, headers, body = http(address + "echo", "POST", b"\x00\xff", Content_Type="application/octet-stream")
    assert (status, body, headers["content-type"]) == (201, b"\x00\xff", "application/octet-stream")
    assert http(address + "nothing")[0] == 404 and http(address + "echo")[0] == 405


def powertools_log_count_and_route_inside_a_function():
    code = """from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import LambdaFunctionUrlResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.metrics import MetricUnit

logger, metrics, app = Logger(service="shop"), Metrics(namespace="shop", service="shop"), LambdaFunctionUrlResolver()

@app.get("/orders/<order>")
def one(order):
    if order == "none":
        raise NotFoundError("no such order")
    metrics.add_metric(name="Looked", unit=MetricUnit.Count, value=1)
    logger.info("looked up", extra={"order": order})
    return {"order": order, "by": app.current_event.request_context.http.method}

@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event, context):
    return app.resolve(event, context)
"""
    create("powertools", Code={"ZipFile": with_packages(code, "app.py")}, MemorySize=512, Timeout=30)
    address = url("powertools")
    status, headers, body = http(address + "orders/7")
    assert (status, json.loads(body)) == (200, {"order": "7", "by": "GET"}), body
    status, _, body = http(address + "orders/none")
    assert (status, json.loads(body)["message"]) == (404, "no such order"), body
    logs = boto3.client("logs")

    def printed():
        events = logs.filter_log_events(logGroupName="/aws/lambda/powertools")["events"]
        return [json.loads(event["message"]) for event in events if event["message"].startswith("{")]

    [line] = until("it is logged", lambda: [each for each in printed() if each.get("message") == "looked up"])
    assert (line["order"], line["service"], line["function_name"], line["cold_start"]) == ("7", "shop", "powertools", True), line
    assert line["function_arn"] == "arn:aws:lambda:us-east-1:000000000000:function:powertools", line
    until("it is counted", lambda: [each for each in printed() if each.get("Looked") == [1.0]])


def powertools_tell_which_messages_of_a_batch_failed():
    code = """from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
processor = BatchProcessor(event_type=EventType.SQS)

def one(record):
    body = record.json_body
    print("got", body["n"], record.attributes.approximate_receive_count)
    if body["n"] == 2 and record.attributes.approximate_receive_count == "1":
        raise ValueError("not yet")

def handler(event, context):
    return process_partial_response(event=event, record_handler=one, processor=processor, context=context)
"""
    create("batches", Code={"ZipFile": with_packages(code, "app.py")}, MemorySize=512, Timeout=5)
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="batches", Attributes={"VisibilityTimeout": "5"})["QueueUrl"]
    client.create_event_source_mapping(EventSourceArn="arn:aws:sqs:us-east-1:000000000000:batches", FunctionName="batches",
                                       FunctionResponseTypes=["ReportBatchItemFailures"])
    for number in range(1, 4):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"n": number}))
    logs = boto3.client("logs")

    def got():
        events = logs.filter_log_events(logGroupName="/aws/lambda/batches", filterPattern="got")["events"]
        return sorted(event["message"] for event in events)

    until("all were handled", lambda: got() == ["got 1 1", "got 2 1", "got 2 2", "got 3 1"])


def an_express_app_answers_behind_a_function_url_by_serverless_http():
    code = """const express = require("express");
const app = express();
app.use(express.json());
app.get("/greet/:name", (request, response) => response.cookie("seen", "yes").json({ hello: request.params.name, q: request.query }));
app.post("/sum", (request, response) => response.status(201).send(String(request.body.of.reduce((a, b) => a + b))));
app.get("/picture", (request, response) => response.type("image/png").send(Buffer.from([137, 80, 78, 71])));
exports.handler = require("serverless-http")(app, { binary: ["image/*"] });
"""
    node = "nodejs" + subprocess.check_output(["node", "--version"], text=True)[1:].split(".")[0] + ".x"
    create("express", Runtime=node, Handler="index.handler", MemorySize=512, Timeout=30,
           Code={"ZipFile": with_packages(code, "index.js", "node_modules/")})
    address = url("express")
    status, headers, body = http(address + "greet/you?a=1")
    assert (status, json.loads(body)) == (200, {"hello": "you", "q": {"a": "1"}}), (status, body)
    assert headers.get_all("set-cookie") == ["seen=yes; Path=/"], headers
    status, _, body = http(address + "sum", "POST", b'{"of": [1, 2, 3]}', Content_Type="application/json")
    assert (status, body) == (201, b"6"), body
    status, headers, body = http(address + "picture")
    assert (headers["content-type"], body) == ("image/png", b"\x89PNG"), headers
    assert http(address + "nothing")[0] == 404


globals()[sys.argv[1]]()
