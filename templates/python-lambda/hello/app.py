"""Answers HTTP requests, and payloads given by `rouse invoke`."""

import json

# What is made here is made once and kept for all calls of this instance.
GREETING = "hello"


def handler(event, context):
    query = event.get("queryStringParameters") or {}
    name = query.get("name") or event.get("name") or "world"
    print(f"greeting {name}, request {context.aws_request_id}")
    body = {GREETING: name}
    if "requestContext" not in event:
        return body
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(body) + "\n",
    }
