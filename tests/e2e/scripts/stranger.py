"""What AWS' clients of a stranger come to, asked for what is zebra's and for what never was.

Prints a line of JSON for each request: its name, and both outcomes. Arguments: zebra's account, an account that is nobody's.
"""

import io
import json
import sys
import zipfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

PLAIN = Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"})
lam, sqs, s3, logs, sts, iam = (
    boto3.client(name, config=PLAIN) for name in ("lambda", "sqs", "s3", "logs", "sts", "iam")
)
REGION = "us-east-1"


def package():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr("app.py", "def handler(event, context):\n    return event\n")
    return out.getvalue()


def outcome(call):
    try:
        answer = call()
    except ClientError as error:
        inner = error.response["Error"]
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return [status, inner.get("Code"), inner.get("Message")]
    answer.pop("ResponseMetadata", None)
    body = answer.get("Body")
    if body is not None:
        answer["Body"] = body.read().decode()
    return [200, json.loads(json.dumps(answer, default=str, sort_keys=True))]


def calls(name, account):
    """Every request, of things that are called `name` in an account."""
    queue_url = f"{sqs.meta.endpoint_url}/{account}/{name}-queue"
    queue = f"arn:aws:sqs:{REGION}:{account}:{name}-queue"
    bucket, key = f"{name}-bucket", f"{name}-object"
    for function in (f"{name}-lambda", f"{name}-fn", f"arn:aws:lambda:{REGION}:{account}:function:{name}-lambda"):
        of = {"FunctionName": function}
        for operation, more in [
            ("get_function", {}),
            ("get_function_configuration", {}),
            ("invoke", {"Payload": b"{}"}),
            ("invoke", {"InvocationType": "Event", "Payload": b"{}"}),
            ("list_versions_by_function", {}),
            ("list_aliases", {}),
            ("get_alias", {"Name": "live"}),
            ("get_policy", {}),
            ("get_function_url_config", {}),
            ("create_function_url_config", {"AuthType": "NONE"}),
            ("get_function_concurrency", {}),
            ("put_function_concurrency", {"ReservedConcurrentExecutions": 1}),
            ("get_function_event_invoke_config", {}),
            ("update_function_configuration", {"Description": "mine"}),
            ("update_function_code", {"ZipFile": package()}),
            ("publish_version", {}),
            ("create_alias", {"Name": "mine", "FunctionVersion": "$LATEST"}),
            ("add_permission", {"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "*"}),
            ("list_event_source_mappings", {}),
            ("create_event_source_mapping", {"EventSourceArn": queue}),
            ("delete_function", {}),
        ]:
            yield f"lambda {operation} {function}", lambda o=operation, k={**of, **more}: getattr(lam, o)(**k)
    arn = f"arn:aws:lambda:{REGION}:{account}:function:{name}-lambda"
    yield "lambda list_tags", lambda: lam.list_tags(Resource=arn)
    yield "lambda tag_resource", lambda: lam.tag_resource(Resource=arn, Tags={"a": "b"})
    yield "lambda list_functions", lambda: lam.list_functions()
    yield "lambda list_event_source_mappings", lambda: lam.list_event_source_mappings(EventSourceArn=queue)
    yield "lambda code from a bucket", lambda: lam.create_function(
        FunctionName="strangers", Runtime="python3.11", Handler="app.handler", Role="arn:aws:iam::000000000000:role/r",
        Code={"S3Bucket": bucket, "S3Key": key},
    )
    yield "lambda drains a queue", lambda: lam.create_event_source_mapping(
        FunctionName="strangers-own", EventSourceArn=queue
    )
    yield "sqs list_queues", lambda: sqs.list_queues()
    yield "sqs get_queue_url", lambda: sqs.get_queue_url(QueueName=f"{name}-queue")
    yield "sqs get_queue_url of", lambda: sqs.get_queue_url(
        QueueName=f"{name}-queue", QueueOwnerAWSAccountId=account
    )
    for operation, more in [
        ("get_queue_attributes", {"AttributeNames": ["All"]}),
        ("send_message", {"MessageBody": "x"}),
        ("receive_message", {}),
        ("purge_queue", {}),
        ("list_queue_tags", {}),
        ("list_dead_letter_source_queues", {}),
        ("set_queue_attributes", {"Attributes": {"VisibilityTimeout": "1"}}),
        ("delete_queue", {}),
    ]:
        yield f"sqs {operation}", lambda o=operation, k={"QueueUrl": queue_url, **more}: getattr(sqs, o)(**k)
    yield "sqs start_message_move_task", lambda: sqs.start_message_move_task(SourceArn=queue)
    yield "sqs redrive into", lambda: sqs.set_queue_attributes(
        QueueUrl=OWN_QUEUE,
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": queue, "maxReceiveCount": 3})},
    )
    of = {"Bucket": bucket}
    one = {"Bucket": bucket, "Key": key}
    for operation, more in [
        ("head_bucket", of),
        ("list_objects_v2", of),
        ("list_multipart_uploads", of),
        ("get_object", one),
        ("head_object", one),
        ("put_object", {**one, "Body": b"x"}),
        ("delete_object", one),
        ("create_multipart_upload", one),
        ("copy_object", {"Bucket": "strangers-own", "Key": "copy", "CopySource": one}),
        ("delete_bucket", of),
    ]:
        yield f"s3 {operation}", lambda o=operation, k=more: getattr(s3, o)(**k)
    yield "s3 list_buckets", lambda: s3.list_buckets()
    for group in (f"/aws/lambda/{name}-fn", f"/aws/lambda/{name}-lambda"):
        yield f"logs streams {group}", lambda g=group: logs.describe_log_streams(logGroupName=g)
        yield f"logs events {group}", lambda g=group: logs.filter_log_events(logGroupName=g)
    yield "logs groups", lambda: logs.describe_log_groups()
    yield "sts", lambda: sts.get_caller_identity()


zebras, nobodys = sys.argv[1:3]
OWN_QUEUE = sqs.create_queue(QueueName="strangers-own")["QueueUrl"]
s3.create_bucket(Bucket="strangers-own")
lam.create_function(
    FunctionName="strangers-own", Runtime=sys.argv[3], Handler="app.handler", Role="arn:aws:iam::000000000000:role/r",
    Code={"ZipFile": package()},
)
lam.get_waiter("function_active_v2").wait(FunctionName="strangers-own")
for (what, real), (_, never) in zip(calls("zebra", zebras), calls("quagg", nobodys)):
    print(json.dumps([what, outcome(real), outcome(never)]))
