"""Tests of queues with boto3, one function each; the first argument says which. Each uses queues of its own names."""

import hashlib
import json
import os
import sys
import threading
import time

import boto3
from botocore.config import Config

from common import LIMIT, client as functions, create, fails, until

sqs = boto3.client("sqs", config=Config(read_timeout=60))
# One that lets the server judge what is wrong.
raw = boto3.client("sqs", config=Config(parameter_validation=False))


def arn(name):
    return f"arn:aws:sqs:us-east-1:000000000000:{name}"


def make(name, tags=None, **attributes):
    return sqs.create_queue(QueueName=name, Attributes=attributes, tags=tags or {})["QueueUrl"]


def send(url, body, **more):
    return sqs.send_message(QueueUrl=url, MessageBody=body, **more)


def receive(url, count=10, wait=20, **more):
    more.setdefault("AttributeNames", ["All"])
    more.setdefault("MessageAttributeNames", ["All"])
    return sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=count, WaitTimeSeconds=wait, **more).get("Messages", [])


def delete(url, message):
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def attributes(url, *names):
    return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names) or ["All"]).get("Attributes", {})


def bodies(messages):
    return [message["Body"] for message in messages]


def a_queue_is_made_found_changed_listed_tagged_and_deleted():
    url = make("made", tags={"team": "x"}, VisibilityTimeout="7", DelaySeconds="0")
    assert url.endswith("/000000000000/made") and url.startswith(os.environ["AWS_ENDPOINT_URL"]), url
    assert make("made", VisibilityTimeout="7") == url
    fails("QueueAlreadyExists", 400, "different value for attribute VisibilityTimeout", make, "made", VisibilityTimeout="8")
    assert sqs.get_queue_url(QueueName="made")["QueueUrl"] == url
    found = attributes(url)
    assert (found["VisibilityTimeout"], found["QueueArn"], found["MessageRetentionPeriod"]) == ("7", arn("made"), "345600")
    assert abs(int(found["CreatedTimestamp"]) - time.time()) < 600 and found["ApproximateNumberOfMessages"] == "0"
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "9", "Policy": '{"Version":"2012-10-17"}'})
    assert attributes(url, "VisibilityTimeout", "Policy") == {"VisibilityTimeout": "9", "Policy": '{"Version":"2012-10-17"}'}
    sqs.tag_queue(QueueUrl=url, Tags={"a": "1"})
    sqs.untag_queue(QueueUrl=url, TagKeys=["team"])
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"a": "1"}
    urls = [make(f"paged-{n}") for n in range(3)]
    pages = list(sqs.get_paginator("list_queues").paginate(QueueNamePrefix="paged-", PaginationConfig={"PageSize": 2}))
    assert [len(page["QueueUrls"]) for page in pages] == [2, 1]
    assert [each for page in pages for each in page["QueueUrls"]] == urls
    sqs.delete_queue(QueueUrl=url)
    gone = fails("AWS.SimpleQueueService.NonExistentQueue", 400, "does not exist", sqs.get_queue_url, QueueName="made")
    assert isinstance(gone, sqs.exceptions.QueueDoesNotExist), type(gone)
    fails("AWS.SimpleQueueService.NonExistentQueue", 400, "does not exist", send, url, "x")
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="made")


def a_message_is_sent_received_held_and_deleted_with_what_is_attached_to_it():
    url = make("plain", VisibilityTimeout="60")
    attached = {
        "text": {"DataType": "String", "StringValue": "grün"},
        "number.one": {"DataType": "Number", "StringValue": "1.5"},
        "number.two": {"DataType": "Number.int", "StringValue": "2"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988-bd862e3fe1be46a994272793"}}
    # boto3 checks the digests of what it sent and of what it gets.
    sent = send(url, "hällo", MessageAttributes=attached, MessageSystemAttributes=trace)
    assert sent["MD5OfMessageBody"] == hashlib.md5("hällo".encode()).hexdigest() and sent["MD5OfMessageSystemAttributes"]
    message = receive(url)[0]
    assert message["Body"] == "hällo" and message["MessageId"] == sent["MessageId"]
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["MessageAttributes"]["bytes"]["BinaryValue"] == b"\x00\xff" and len(message["MessageAttributes"]) == 4
    told = message["Attributes"]
    assert (told["ApproximateReceiveCount"], told["AWSTraceHeader"]) == ("1", trace["AWSTraceHeader"]["StringValue"]), told
    assert abs(int(told["SentTimestamp"]) / 1000 - time.time()) < 600 and told["SenderId"]
    assert receive(url, wait=0) == []
    counts = attributes(url)
    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]) == ("0", "1")
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    again = receive(url, MessageAttributeNames=["number.*"], AttributeNames=["ApproximateReceiveCount"])[0]
    assert again["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert set(again["MessageAttributes"]) == {"number.one", "number.two"}
    delete(url, message)
    assert attributes(url)["ApproximateNumberOfMessagesNotVisible"] == "1", "an older receipt deletes nothing"
    delete(url, again)
    counts = attributes(url)
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"
    send(url, "later", DelaySeconds=2)
    assert attributes(url)["ApproximateNumberOfMessagesDelayed"] == "1" and receive(url, wait=0) == []
    assert bodies(receive(url)) == ["later"]
    send(url, "rest")
    sqs.purge_queue(QueueUrl=url)
    assert set(attributes(url, "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible").values()) == {"0"}


def batches_tell_of_each_message_what_came_of_it():
    url = make("batches", VisibilityTimeout="600")
    entries = [{"Id": f"m{n}", "MessageBody": f"body {n}"} for n in range(9)]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=[*entries, {"Id": "bad", "MessageBody": "x\x01"}])
    assert [each["Id"] for each in sent["Successful"]] == [entry["Id"] for entry in entries], sent
    assert (sent["Failed"][0]["Id"], sent["Failed"][0]["Code"], sent["Failed"][0]["SenderFault"]) == ("bad", "InvalidMessageContents", True)
    got = receive(url)
    assert sorted(bodies(got)) == [entry["MessageBody"] for entry in entries]
    held = sqs.change_message_visibility_batch(QueueUrl=url, Entries=[
        {"Id": "a", "ReceiptHandle": got[0]["ReceiptHandle"], "VisibilityTimeout": 100},
        {"Id": "b", "ReceiptHandle": "nonsense", "VisibilityTimeout": 100},
    ])
    assert [each["Id"] for each in held["Successful"]] == ["a"] and held["Failed"][0]["Code"] == "ReceiptHandleIsInvalid", held
    gone = sqs.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]} for n, each in enumerate(got)])
    assert len(gone["Successful"]) == 9 and "Failed" not in gone
    assert attributes(url)["ApproximateNumberOfMessagesNotVisible"] == "0"
    wrong = "AWS.SimpleQueueService."
    batch = lambda entries: sqs.send_message_batch(QueueUrl=url, Entries=entries)
    fails(wrong + "EmptyBatchRequest", 400, "at least one", batch, [])
    fails(wrong + "TooManyEntriesInBatchRequest", 400, "You have sent 11", batch, [{"Id": str(n), "MessageBody": "x"} for n in range(11)])
    fails(wrong + "BatchEntryIdsNotDistinct", 400, "Id a repeated", batch, [{"Id": "a", "MessageBody": "x"}] * 2)
    fails(wrong + "InvalidBatchEntryId", 400, "alphanumeric", batch, [{"Id": "a b", "MessageBody": "x"}])
    fails(wrong + "BatchRequestTooLong", 400, "cannot be longer", batch, [{"Id": str(n), "MessageBody": "x" * 700_000} for n in range(2)])


def a_receiver_waits_for_a_message_and_two_receivers_share_them():
    url = make("shared", ReceiveMessageWaitTimeSeconds="20", VisibilityTimeout="600")
    got, lock = [], threading.Lock()

    def consume():
        own = boto3.client("sqs", config=Config(read_timeout=60))
        while True:
            found = own.receive_message(QueueUrl=url, MaxNumberOfMessages=3).get("Messages", [])
            for message in found:
                own.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            with lock:
                got.extend(message["Body"] for message in found)
                if "end" in bodies(found):
                    return

    consumers = [threading.Thread(target=consume) for _ in range(2)]
    for consumer in consumers:
        consumer.start()
    time.sleep(0.5)
    for n in range(40):
        send(url, str(n))
    until("all are received", lambda: len(got) >= 40)
    for _ in consumers:
        send(url, "end")
        time.sleep(0.2)
    until("one has ended", lambda: not all(consumer.is_alive() for consumer in consumers))
    # One consumer may have taken both.
    send(url, "end")
    for consumer in consumers:
        consumer.join(LIMIT)
        assert not consumer.is_alive()
    assert sorted(body for body in got if body != "end") == sorted(map(str, range(40))), got


def a_fifo_queue_keeps_order_and_takes_a_repeated_message_once():
    url = make("orders.fifo", FifoQueue="true", VisibilityTimeout="600")
    sent = [send(url, f"{group}{n}", MessageGroupId=group, MessageDeduplicationId=f"{group}{n}") for n in range(3) for group in "ab"]
    numbers = [each["SequenceNumber"] for each in sent]
    assert numbers == sorted(numbers) and all(len(number) == 20 for number in numbers)
    again = send(url, "another body", MessageGroupId="a", MessageDeduplicationId="a0")
    assert again["MessageId"] == sent[0]["MessageId"]
    first = receive(url, 2)
    group = first[0]["Attributes"]["MessageGroupId"]
    assert bodies(first) == [f"{group}0", f"{group}1"], first
    assert first[0]["Attributes"]["MessageDeduplicationId"] == f"{group}0" and first[0]["Attributes"]["SequenceNumber"] in numbers
    other = receive(url)
    assert [body[0] for body in bodies(other)] == [("a", "b")[group == "a"]] * 3, "a group that is held waits"
    delete(url, first[0])
    assert receive(url, wait=0) == []
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first[1]["ReceiptHandle"], VisibilityTimeout=0)
    assert bodies(receive(url)) == [f"{group}1", f"{group}2"]
    plain = make("contents.fifo", FifoQueue="true", ContentBasedDeduplication="true")
    ids = {send(plain, "same", MessageGroupId="g")["MessageId"] for _ in range(3)}
    assert len(ids) == 1 and attributes(plain)["ApproximateNumberOfMessages"] == "1"
    fails("InvalidParameterValue", 400, "ContentBasedDeduplication enabled", send, url, "x", MessageGroupId="g")
    fails("MissingParameter", 400, "MessageGroupId", send, url, "x", MessageDeduplicationId="x")
    fails("InvalidParameterValue", 400, "queue type", send, url, "x", MessageGroupId="g", MessageDeduplicationId="x", DelaySeconds=1)


def poison_goes_to_the_dead_letter_queue_and_is_moved_back():
    dead = make("dead")
    policy = json.dumps({"deadLetterTargetArn": arn("dead"), "maxReceiveCount": 2})
    url = make("source", VisibilityTimeout="0", RedrivePolicy=policy)
    assert json.loads(attributes(url)["RedrivePolicy"])["maxReceiveCount"] == 2
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
    sent = send(url, "poison")
    assert [receive(url)[0]["Attributes"]["ApproximateReceiveCount"] for _ in range(2)] == ["1", "2"]
    assert receive(url, wait=0) == []
    found = receive(dead, VisibilityTimeout=0)[0]
    assert found["MessageId"] == sent["MessageId"] and found["Attributes"]["DeadLetterQueueSourceArn"] == arn("source")
    task = sqs.start_message_move_task(SourceArn=arn("dead"))
    assert task["TaskHandle"]
    assert receive(url)[0]["Attributes"]["ApproximateReceiveCount"] == "1"
    done = lambda: sqs.list_message_move_tasks(SourceArn=arn("dead"))["Results"][0]["Status"] == "COMPLETED"
    until("the move is done", done)
    fails("InvalidParameterValue", 400, "configured as a Dead Letter Queue", sqs.start_message_move_task, SourceArn=arn("source"))
    fails("ResourceNotFoundException", 400, "", sqs.cancel_message_move_task, TaskHandle=task["TaskHandle"])


def what_is_wrong_with_a_request_is_told_as_sqs_tells_it():
    url = make("wrong")
    fails("InvalidParameterValue", 400, "between 1 and 10", receive, url, 11, 0)
    fails("InvalidParameterValue", 400, "DelaySeconds must be >= 0 and <= 900", send, url, "x", DelaySeconds=901)
    fails("InvalidParameterValue", 400, "WaitTimeSeconds", receive, url, 1, 21)
    fails("InvalidParameterValue", 400, "shorter than 1048576", send, url, "x" * (1 << 20) + "x")
    fails("InvalidParameterValue", 400, "attribute .a. to a number", send, url, "x", MessageAttributes={"a": {"DataType": "Number", "StringValue": "x"}})
    fails("MissingParameter", 400, "MessageBody", raw.send_message, QueueUrl=url)
    fails("ReceiptHandleIsInvalid", 400, "not a valid receipt", sqs.delete_message, QueueUrl=url, ReceiptHandle="x")
    fails("InvalidAttributeName", 400, "Unknown Attribute Nothing", sqs.set_queue_attributes, QueueUrl=url, Attributes={"Nothing": "1"})
    fails("InvalidAttributeValue", 400, "VisibilityTimeout", sqs.set_queue_attributes, QueueUrl=url, Attributes={"VisibilityTimeout": "x"})
    fails("InvalidParameterValue", 400, "alphanumeric", sqs.create_queue, QueueName="a b")
    fails("AWS.SimpleQueueService.UnsupportedOperation", 400, "does not offer", sqs.add_permission, QueueUrl=url, Label="a", AWSAccountIds=["1"], Actions=["*"])
    other = make("other")
    send(other, "x")
    message = receive(other)[0]
    fails("ReceiptHandleIsInvalid", 400, "", sqs.delete_message, QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    foreign = url.replace("000000000000", "111111111111")
    fails("AWS.SimpleQueueService.NonExistentQueue", 400, "", send, foreign, "x")
    stranger = boto3.client("sqs", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong")
    fails("InvalidSignatureException", 403, "", stranger.list_queues)


# Functions


def printed(name):
    events = boto3.client("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}", filterPattern="got")["events"]
    return [event["message"] for event in events]


def mapping_is(uuid, state):
    until(f"the mapping is {state}", lambda: functions.get_event_source_mapping(UUID=uuid)["State"] == state)


def an_event_source_mapping_drains_a_queue_while_it_is_enabled():
    code = """import json
def handler(event, context):
    failed = []
    for record in event["Records"]:
        print("got", record["body"], record["eventSourceARN"], record["messageAttributes"].get("a", {}).get("stringValue"))
        if "bad" in record["body"]:
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
"""
    create("Drains_1", code)
    dead = make("undrained")
    url = make("drained", VisibilityTimeout="1",
               RedrivePolicy=json.dumps({"deadLetterTargetArn": arn("undrained"), "maxReceiveCount": "2"}))
    made = functions.create_event_source_mapping(
        EventSourceArn=arn("drained"), FunctionName="Drains_1", BatchSize=5, MaximumBatchingWindowInSeconds=1,
        FunctionResponseTypes=["ReportBatchItemFailures"], ScalingConfig={"MaximumConcurrency": 2},
        FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"kind": [{"anything-but": "other"}]}})}]})
    uuid = made["UUID"]
    assert made["State"] == "Creating"
    mapping_is(uuid, "Enabled")
    body = lambda kind: json.dumps({"kind": kind})
    send(url, body("good"), MessageAttributes={"a": {"DataType": "String", "StringValue": "b"}})
    for kind in ["bad", "other"]:
        send(url, body(kind))
    assert bodies(until("what fails is given up", lambda: receive(dead))) == [body("bad")]
    line = f"got {body('good')} {arn('drained')} b"
    lines = until("the lines are there", lambda: len(found := printed("Drains_1")) >= 3 and found)
    assert lines.count(line) == 1 and sum("bad" in each for each in lines) == 2 and not any("other" in each for each in lines), lines
    assert functions.update_event_source_mapping(UUID=uuid, Enabled=False)["State"] == "Disabling"
    mapping_is(uuid, "Disabled")
    send(url, body("waits"))
    assert bodies(receive(url, VisibilityTimeout=0)) == [body("waits")], "nobody else takes it"
    functions.update_event_source_mapping(UUID=uuid, Enabled=True, BatchSize=1)
    until("it goes on", lambda: any("waits" in each for each in printed("Drains_1")))
    fails("InvalidParameterValueException", 400, "filter pattern", functions.update_event_source_mapping, UUID=uuid,
          FilterCriteria={"Filters": [{"Pattern": "{"}]})
    assert functions.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"

    def gone():
        try:
            functions.get_event_source_mapping(UUID=uuid)
        except functions.exceptions.ResourceNotFoundException:
            return True

    until("it is gone", gone)


def an_asynchronous_calls_outcome_goes_to_its_destinations_and_dead_letters():
    code = """def handler(event, context):
    if event.get("bad"):
        raise ValueError("it was bad")
    return {"well": event}
"""
    well, ill, dead = make("well"), make("ill"), make("letters")
    create("Outcomes", code, DeadLetterConfig={"TargetArn": arn("letters")})
    functions.put_function_event_invoke_config(
        FunctionName="Outcomes", MaximumRetryAttempts=1, MaximumEventAgeInSeconds=600,
        DestinationConfig={"OnSuccess": {"Destination": arn("well")}, "OnFailure": {"Destination": arn("ill")}})
    call = lambda payload: functions.invoke(FunctionName="Outcomes", InvocationType="Event", Payload=json.dumps(payload))
    call({"a": 1})
    told = json.loads(until("a success is told", lambda: receive(well))[0]["Body"])
    assert (told["requestPayload"], told["responsePayload"]) == ({"a": 1}, {"well": {"a": 1}}), told
    context = told["requestContext"]
    assert context["condition"] == "Success" and context["functionArn"].endswith(":function:Outcomes:$LATEST"), told
    request = call({"bad": True})["ResponseMetadata"]["RequestId"]
    told = json.loads(until("a failure is told", lambda: receive(ill))[0]["Body"])
    assert told["requestContext"]["requestId"] == request
    assert (told["requestContext"]["condition"], told["requestContext"]["approximateInvokeCount"]) == ("RetriesExhausted", 2), told
    assert told["responsePayload"].get("errorMessage") == "it was bad", told
    assert told["responseContext"]["functionError"] == "Unhandled"
    letter = until("the event is a dead letter", lambda: receive(dead))[0]
    assert json.loads(letter["Body"]) == {"bad": True}
    assert letter["MessageAttributes"]["RequestID"]["StringValue"] == request
    assert letter["MessageAttributes"]["ErrorMessage"]["StringValue"] == "it was bad"
    fails("InvalidParameterValueException", 400, "not offered", functions.put_function_event_invoke_config,
          FunctionName="Outcomes", DestinationConfig={"OnSuccess": {"Destination": "arn:aws:sns:us-east-1:000000000000:t"}})
    print(request)


# Steps of tests that look at the platform from outside.


def sends():
    url = make(sys.argv[2])
    print(json.dumps(sorted(send(url, f"message {n}")["MessageId"] for n in range(int(sys.argv[3])))))


def maps():
    code = "def handler(event, context):\n    print('got', event['Records'][0]['messageId'])\n"
    create("Mapped", code)
    # One instance: a second one, started before there was a history, would be kept as long as its start is worth.
    functions.put_function_concurrency(FunctionName="Mapped", ReservedConcurrentExecutions=1)
    functions.get_waiter("function_updated_v2").wait(FunctionName="Mapped")
    made = functions.create_event_source_mapping(EventSourceArn=arn("mapped"), FunctionName="Mapped", BatchSize=1)
    mapping_is(made["UUID"], "Enabled")


def handled():
    until("all are handled", lambda: len(set(printed("Mapped"))) >= int(sys.argv[2]))
    print(json.dumps(sorted(line.split()[1] for line in set(printed("Mapped")))))


def receives():
    url, got = make(sys.argv[2]), []
    until("all are received", lambda: got.extend(receive(url, wait=1)) or len(got) >= int(sys.argv[3]))
    for message in got:
        delete(url, message)
    print(json.dumps(sorted(message["MessageId"] for message in got)))


def what_is_wrong_with_queues_is_told_as_aws_tells_it():
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    ordered = sqs.create_queue(QueueName="told.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    fails("InvalidAttributeName", 400, "^You can use one type of server-side encryption", sqs.set_queue_attributes, QueueUrl=queue,
          Attributes={"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"KmsMasterKeyId": "k"})
    assert sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["SqsManagedSseEnabled"])["Attributes"] == {
        "SqsManagedSseEnabled": "false"}
    fails("InvalidAttributeValue", 400, "FifoQueue. Reason: Modifying queue type is not supported.$", sqs.set_queue_attributes,
          QueueUrl=ordered, Attributes={"FifoQueue": "false"})
    fails("InvalidParameterValue", 400, r"RedrivePolicy is invalid. Reason: Invalid value for deadLetterTargetArn.$",
          sqs.set_queue_attributes, QueueUrl=queue,
          Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": "dummy", "maxReceiveCount": 42})})
    fails("InvalidParameterValue", 400, r"^Message \(user\) attribute 'a' must contain a non-empty value of type 'String'.$",
          sqs.send_message, QueueUrl=queue, MessageBody="m", MessageAttributes={"a": {"DataType": "String", "StringValue": ""}})
    fails("InvalidParameterValue", 400, "^The request must contain the parameter MessageGroupId.$", sqs.send_message_batch,
          QueueUrl=ordered, Entries=[{"Id": "a", "MessageBody": "m"}])


if __name__ == "__main__":
    globals()[sys.argv[1]]()
