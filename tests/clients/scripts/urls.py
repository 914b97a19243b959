"""Tests of function URLs with boto3 and a plain HTTP client, one function each; the first argument says which."""

import base64
import http.client
import json
import os
import subprocess
import sys
import urllib.parse

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from common import archive, client, create, everyone, fails, http as fetch

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
TELL = "def handler(event, context):\n    return event\n"


def url(name, **more):
    made = client.create_function_url_config(**{"FunctionName": name, "AuthType": "NONE", **more})["FunctionUrl"]
    everyone(name)
    return made


def signed(address, method="GET", body=None, secret=None):
    """What a request that is signed for Lambda gets."""
    credentials = boto3.Session().get_credentials()
    if secret:
        credentials = boto3.Session(aws_access_key_id=credentials.access_key, aws_secret_access_key=secret).get_credentials()
    request = AWSRequest(method=method, url=address, data=body)
    SigV4Auth(credentials, "lambda", "us-east-1").add_auth(request)
    return fetch(address, method, body, **dict(request.headers))


def a_function_answers_http_at_its_url():
    create("open", TELL)
    address = url("open")
    status, headers, body = fetch(address + "a%20b/c?x=1&x=2&y=%21", "POST", b'{"k": 1}', Content_Type="application/json",
                                  Cookie="a=b; c=d", X_Own="1")
    event = json.loads(body)
    assert status == 200 and headers["Content-Type"] == "application/json" and headers["x-amzn-RequestId"], headers
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a%20b/c"), event
    assert event["rawQueryString"] == "x=1&x=2&y=%21" and event["queryStringParameters"] == {"x": "1,2", "y": "!"}
    assert event["cookies"] == ["a=b", "c=d"] and event["headers"]["x-own"] == "1" and "cookie" not in event["headers"]
    assert (event["body"], event["isBase64Encoded"]) == ('{"k": 1}', False)
    context = event["requestContext"]
    assert (context["accountId"], context["stage"]) == ("anonymous", "$default") and "authorizer" not in context
    assert context["domainPrefix"] == context["apiId"] and context["apiId"] in address
    assert context["http"]["method"] == "POST" and context["http"]["sourceIp"] == "127.0.0.1", context
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1" and event["headers"]["x-forwarded-proto"] == "http"
    event = json.loads(fetch(address, "PUT", b"\xff\x00", Content_Type="image/png")[2])
    assert (event["isBase64Encoded"], base64.b64decode(event["body"])) == (True, b"\xff\x00")
    # The same URL by its host name, as one that has a domain would have it.
    own = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(own.hostname, own.port)
    connection.request("GET", "/by/host", headers={"Host": f"{context['apiId']}.lambda-url.us-east-1.example"})
    assert json.loads(connection.getresponse().read())["rawPath"] == "/by/host"
    client.delete_function_url_config(FunctionName="open")
    assert fetch(address)[0] == 403
    # Nor has it another address.
    assert fetch(os.environ["GATEWAY"] + "/fn/default/open/")[0] == 404


def a_function_says_status_headers_cookies_and_body():
    code = """import base64
def handler(event, context):
    if event["rawPath"] == "/raise": raise ValueError("secret")
    if event["rawPath"] == "/wrong": return {"statusCode": "teapot"}
    if event["rawPath"] == "/text": return "just text"
    return {"statusCode": 201, "headers": {"x-own": "1", "content-type": "image/png"}, "cookies": ["a=b", "c=d; Secure"],
            "isBase64Encoded": True, "body": base64.b64encode(b"\\x89PNG").decode()}
"""
    create("says", code)
    address = url("says")
    status, headers, body = fetch(address)
    assert (status, headers["x-own"], headers["content-type"], body) == (201, "1", "image/png", b"\x89PNG"), headers
    assert headers.get_all("set-cookie") == ["a=b", "c=d; Secure"]
    assert fetch(address + "text")[2] == b"just text"
    for path in ["raise", "wrong"]:
        status, _, body = fetch(address + path)
        assert status == 502 and body == b"Internal Server Error", (path, status, body)
    client.put_function_concurrency(FunctionName="says", ReservedConcurrentExecutions=0)
    status, _, body = fetch(address)
    assert status == 429 and json.loads(body)["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", body


def only_who_signs_reaches_a_url_of_aws_iam():
    create("closed", TELL)
    address = url("closed", AuthType="AWS_IAM")
    for refused in [fetch(address), signed(address, secret="wrong")]:
        assert refused[0] == 403, refused
    status, _, body = signed(address + "in?a=b", "POST", b'{"a": 1}')
    event = json.loads(body)
    assert status == 200 and event["body"] == '{"a": 1}' or event["isBase64Encoded"], event
    iam = event["requestContext"]["authorizer"]["iam"]
    assert iam["accessKey"] == os.environ["AWS_ACCESS_KEY_ID"] and iam["accountId"] == "000000000000", iam
    assert event["requestContext"]["accountId"] == "000000000000"
    client.update_function_url_config(FunctionName="closed", AuthType="NONE")
    assert fetch(address)[0] == 200


def a_page_of_another_origin_is_told_what_it_may():
    create("pages", "def handler(event, context):\n"
                    "    return {'statusCode': 200, 'headers': {'access-control-allow-origin': 'https://own'}, 'body': event"
                    "['requestContext']['http']['method']}\n")
    address = url("pages", Cors={"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET", "POST"], "MaxAge": 60,
                                 "AllowHeaders": ["x-a"], "ExposeHeaders": ["x-b"], "AllowCredentials": True})
    ask = {"Origin": "https://a.example", "Access_Control_Request_Method": "POST"}
    status, headers, body = fetch(address, "OPTIONS", **ask)
    told = {name.lower(): value for name, value in headers.items() if name.lower().startswith("access-control-")}
    assert (status, body) == (200, b"") and told == {
        "access-control-allow-origin": "https://a.example", "access-control-allow-methods": "GET,POST",
        "access-control-allow-headers": "x-a", "access-control-expose-headers": "x-b", "access-control-max-age": "60",
        "access-control-allow-credentials": "true"}, told
    _, headers, body = fetch(address, Origin="https://a.example")
    assert headers["access-control-allow-origin"] == "https://a.example" and body == b"GET"
    for method in ["OPTIONS", "GET"]:
        headers = fetch(address, method, **{**ask, "Origin": "https://b.example"})[1]
        assert headers["access-control-allow-origin"] != "https://b.example", headers
    # Without settings it is the function's own affair.
    client.update_function_url_config(FunctionName="pages", Cors={})
    status, headers, body = fetch(address, "OPTIONS", **ask)
    assert headers["access-control-allow-origin"] in ("https://own", None), headers


def an_answer_streams_through_a_url():
    node = "nodejs" + subprocess.check_output(["node", "--version"], text=True)[1:].split(".")[0] + ".x"
    code = """exports.handler = awslambda.streamifyResponse(async (event, stream) => {
    stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { "x-own": "1", "content-type": "text/plain" } });
    for (let i = 0; i < 5; i++) { stream.write(`part ${i} `); await new Promise((done) => setTimeout(done, 20)); }
    stream.end();
});
"""
    create("streams-http", Runtime=node, Handler="index.handler", Code={"ZipFile": archive(code, "index.js")})
    address = url("streams-http", InvokeMode="RESPONSE_STREAM")
    status, headers, body = fetch(address)
    assert (status, headers["x-own"], headers["content-type"]) == (201, "1", "text/plain"), headers
    assert headers["transfer-encoding"] == "chunked" and body == b"part 0 part 1 part 2 part 3 part 4 ", (headers, body)
    client.update_function_url_config(FunctionName="streams-http", InvokeMode="BUFFERED")
    status, headers, body = fetch(address)
    assert (status, headers["x-own"], headers["content-length"]) == (201, "1", str(len(body))), headers
    create("whole", "def handler(event, context):\n    return {'statusCode': 202, 'body': 'whole'}\n")
    status, _, body = fetch(url("whole", InvokeMode="RESPONSE_STREAM"))
    assert (status, body) == (202, b"whole")


def urls_are_made_shown_changed_and_deleted():
    create("urls", "def handler(event, context):\n    return context.function_version\n")
    client.publish_version(FunctionName="urls")
    client.get_waiter("published_version_active").wait(FunctionName="urls", Qualifier="1")
    client.create_alias(FunctionName="urls", Name="live", FunctionVersion="1")
    made = client.create_function_url_config(FunctionName="urls", AuthType="NONE", Qualifier="live",
                                             Cors={"AllowOrigins": ["*"]})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201 and "LastModifiedTime" not in made
    assert made["FunctionArn"] == ARN + "urls:live" and made["Cors"] == {"AllowOrigins": ["*"]}
    assert "InvokeMode" not in made
    status, headers, body = fetch(made["FunctionUrl"])
    assert (status, json.loads(body)) == (403, {"Message": "Forbidden"}), (status, body)
    assert headers["x-amzn-ErrorType"] == "AccessDeniedException", headers
    everyone("urls", Qualifier="live")
    assert fetch(made["FunctionUrl"])[2] == b"1"
    other = client.create_function_url_config(FunctionName="urls", AuthType="NONE", InvokeMode="BUFFERED")
    assert other["InvokeMode"] == "BUFFERED" and fetch(other["FunctionUrl"])[0] == 403
    everyone("urls")
    assert fetch(other["FunctionUrl"])[2] == b"$LATEST" and other["FunctionUrl"] != made["FunctionUrl"]
    got = client.get_function_url_config(FunctionName="urls", Qualifier="live")
    assert got["FunctionUrl"] == made["FunctionUrl"] and got["LastModifiedTime"] == got["CreationTime"]
    assert len(client.list_function_url_configs(FunctionName="urls")["FunctionUrlConfigs"]) == 2
    fails("ResourceConflictException", 409, rf"^Failed to create function url config for \[functionArn = {ARN}urls\]. Error "
          "message:  FunctionUrlConfig exists for this Lambda function$", client.create_function_url_config,
          FunctionName="urls", AuthType="NONE")
    for action, more, said in [
        (client.create_function_url_config, {"FunctionName": "none", "AuthType": "NONE"}, "^Function does not exist$"),
        (client.create_function_url_config, {"FunctionName": "urls", "AuthType": "NONE", "Qualifier": "none"},
         "^Function does not exist$"),
        (client.get_function_url_config, {"FunctionName": "none"}, "^The resource you requested does not exist.$"),
        (client.delete_function_url_config, {"FunctionName": "urls", "Qualifier": "none"},
         "^The resource you requested does not exist.$"),
        (client.list_function_url_configs, {"FunctionName": "none"}, "^Function does not exist$"),
    ]:
        fails("ResourceNotFoundException", 404, said, action, **more)
    client.delete_function_url_config(FunctionName="urls", Qualifier="live")
    assert fetch(made["FunctionUrl"])[0] == 403 and fetch(other["FunctionUrl"])[0] == 200
    client.delete_function(FunctionName="urls")
    assert fetch(other["FunctionUrl"])[0] == 403


globals()[sys.argv[1]]()
