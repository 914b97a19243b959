"""A Lambda handler in Python: greets, and sums up numbers.

Called over HTTP (a function URL event): `GET /?name=Ada` greets and echoes the query; `POST /` with a JSON
list of numbers answers their statistics. Called directly, the event itself is the JSON: {"name": "Ada"}.
"""

import base64
import json
import statistics


def handler(event, context):
    if not isinstance(event, dict) or "requestContext" not in event:
        return job(event)
    query = event.get("queryStringParameters") or {}
    if event["requestContext"]["http"]["method"] != "POST":
        return respond(200, {**greet(query.get("name", "world")), "query": query})
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body)
    try:
        return respond(200, job(json.loads(body)))
    except (ValueError, TypeError) as error:
        return respond(400, {"error": f"the body is not a name or a list of numbers: {error}"})


def job(value):
    if isinstance(value, list):
        return {
            "from": "python",
            "count": len(value),
            "mean": statistics.fmean(value),
            "median": statistics.median(value),
            "deviation": statistics.pstdev(value),
        }
    return greet(value.get("name", "world") if isinstance(value, dict) else "world")


def greet(name):
    print(f"greeting {name}")
    return {"greeting": f"Hello, {name}!", "from": "python"}


def respond(status, value):
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(value) + "\n",
    }
