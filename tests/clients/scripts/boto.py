"""Tests with boto3, one function each; the first argument says which."""

import base64
import io
import json
import os
import re
import sys
import time
import zipfile

import boto3
from botocore.config import Config

from common import ECHO, ROLE, RUNTIME, archive, call, client, create, everyone, fails, raw, updated


def a_function_is_created_awaited_called_and_deleted():
    name = "My_First-function"
    made = create(name, Environment={"Variables": {"AB": "b"}}, Tags={"team": "x"}, Timeout=7)
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["FunctionArn"] == arn and made["FunctionName"] == name and made["Version"] == "$LATEST"
    assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating") and "LastUpdateStatus" not in made
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", made["LastModified"])
    got = client.get_function(FunctionName=name)
    config = got["Configuration"]
    assert (config["State"], config["LastUpdateStatus"]) == ("Active", "Successful") and "StateReason" not in config
    assert got["Tags"] == {"team": "x"} and config["Timeout"] == 7 and config["MemorySize"] == 128
    import urllib.request
    assert zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(got["Code"]["Location"]).read())).namelist() == ["app.py"]
    account, partial = f"000000000000:function:{name}", f"function:{name}"
    for form in [name, arn, partial, account, arn + ":$LATEST"]:
        answer, value = call(form, {"a": 1})
        assert value == {"a": 1} and answer["StatusCode"] == 200, (form, value)
        assert answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    assert client.invoke(FunctionName=name, InvocationType="DryRun")["StatusCode"] == 204
    assert client.delete_function(FunctionName=name)["ResponseMetadata"]["HTTPStatusCode"] == 204
    fails("ResourceNotFoundException", 404, f"^Function not found: {re.escape(arn)}$", client.get_function, FunctionName=name)


def code_comes_from_objects_and_a_function_has_a_key_of_its_own():
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code")
    tell = "import os\ndef handler(event, context):\n    return [%s, os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_ENDPOINT_URL']]\n"
    s3.put_object(Bucket="code", Key="a/one.zip", Body=archive(tell % 1))
    s3.put_object(Bucket="code", Key="a/two.zip", Body=archive(tell % 2))
    s3.put_object(Bucket="code", Key="a/none.zip", Body=b"no archive")
    made = create("from-s3", Code={"S3Bucket": "code", "S3Key": "a/one.zip"})
    assert made["CodeSize"] == len(archive(tell % 1)), made
    one, key, endpoint = call("from-s3")[1]
    assert (one, key.startswith("ROUSE_default_"), endpoint) == (1, True, "http://127.6.0.1:4566"), (key, endpoint)
    tell_more = "import os\ndef handler(event, context):\n    return [os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY']]\n"
    create("tells", tell_more)
    id, secret = call("tells")[1]
    own = boto3.client("lambda", aws_access_key_id=id, aws_secret_access_key=secret)
    assert json.loads(own.invoke(FunctionName="from-s3", Payload=b"{}")["Payload"].read())[0] == 1
    fails("AccessDeniedException", 403, "key of a function", own.delete_function, FunctionName="from-s3")
    fails("AccessDeniedException", 403, "key of a function", own.get_function, FunctionName="from-s3")
    client.update_function_code(FunctionName="from-s3", S3Bucket="code", S3Key="a/two.zip")
    client.get_waiter("function_updated_v2").wait(FunctionName="from-s3")
    assert call("from-s3")[1][0] == 2
    for bucket, key, said in [("code", "a/three.zip", "NoSuchKey"), ("other", "a/one.zip", "NoSuchBucket"),
                              ("code", "a/none.zip", "Could not unzip")]:
        fails("InvalidParameterValueException", 400, said, client.update_function_code,
              FunctionName="from-s3", S3Bucket=bucket, S3Key=key)


def a_function_is_updated_and_published_and_aliases_share_its_calls():
    code = "import os\ndef handler(e, c):\n    return [%s, c.function_version, os.environ.get('AB')]\n"
    create("versions", code % 1)
    one = client.publish_version(FunctionName="versions", Description="first")
    assert (one["Version"], one["Description"]) == ("1", "first") and one["FunctionArn"].endswith(":versions:1")
    again = client.publish_version(FunctionName="versions")
    assert again["Version"] == "1", again
    client.get_waiter("published_version_active").wait(FunctionName="versions", Qualifier="1")
    updated = client.update_function_code(FunctionName="versions", ZipFile=archive(code % 2))
    assert updated["LastUpdateStatus"] == "InProgress" and updated["CodeSha256"] != one["CodeSha256"]
    client.get_waiter("function_updated_v2").wait(FunctionName="versions")
    client.update_function_configuration(FunctionName="versions", Environment={"Variables": {"AB": "b"}})
    client.get_waiter("function_updated_v2").wait(FunctionName="versions")
    two = client.publish_version(FunctionName="versions")
    assert two["Version"] == "2"
    client.get_waiter("published_version_active").wait(FunctionName="versions", Qualifier="2")
    assert call("versions")[1] == [2, "$LATEST", "b"]
    assert call("versions", Qualifier="1")[1] == [1, "1", None]
    assert call("versions:2")[1] == [2, "2", "b"]
    alias = client.create_alias(FunctionName="versions", Name="live", FunctionVersion="1",
                                RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    assert alias["AliasArn"].endswith(":versions:live") and alias["RoutingConfig"]["AdditionalVersionWeights"] == {"2": 0.5}
    seen = set()
    for _ in range(40):
        answer, value = call("versions", Qualifier="live")
        assert answer["ExecutedVersion"] == value[1]
        seen.add(value[1])
    assert seen == {"1", "2"}, seen
    client.update_alias(FunctionName="versions", Name="live", FunctionVersion="2", RoutingConfig={})
    assert {call("versions:live")[1][1] for _ in range(5)} == {"2"}
    fails("ResourceConflictException", 409, r"following aliases reference it: \[live\]", client.delete_function,
          FunctionName="versions", Qualifier="2")
    client.delete_alias(FunctionName="versions", Name="live")
    client.delete_function(FunctionName="versions", Qualifier="2")
    listed = client.list_versions_by_function(FunctionName="versions")["Versions"]
    assert [each["Version"] for each in listed] == ["$LATEST", "1"], listed
    client.delete_function(FunctionName="versions")


def an_error_a_timeout_and_an_exit_are_told_as_aws_tells_them():
    code = """import os, time
def handler(event, context):
    if event["do"] == "raise": raise ValueError("no good")
    if event["do"] == "sleep": time.sleep(30)
    os._exit(3)
"""
    create("errors", code, Timeout=1)
    answer, value = call("errors", {"do": "raise"})
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert (value["errorType"], value["errorMessage"]) == ("ValueError", "no good") and value["stackTrace"], value
    answer, value = call("errors", {"do": "sleep"})
    assert answer["FunctionError"] == "Unhandled" and "Task timed out after 1.00 seconds" in value["errorMessage"], value
    answer, value = call("errors", {"do": "exit"})
    assert value["errorType"] == "Runtime.ExitError" and "exit status 3" in value["errorMessage"], value
    create("unloadable", "import nothing_of_this_name\n")
    answer, value = call("unloadable")
    assert answer["FunctionError"] == "Unhandled" and value["errorType"] == "Runtime.ImportModuleError", value


def the_tail_of_the_log_and_the_context_are_there():
    code = """def handler(event, context):
    print("said", event["word"])
    own = context.client_context
    return {"arn": context.invoked_function_arn, "name": context.function_name, "id": context.aws_request_id,
            "memory": context.memory_limit_in_mb, "group": context.log_group_name, "client": own and own.custom}
"""
    create("Tail_1", code)
    own = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    answer, value = call("Tail_1", {"word": "hello"}, LogType="Tail", ClientContext=own)
    tail = base64.b64decode(answer["LogResult"]).decode()
    request = answer["ResponseMetadata"]["RequestId"]
    assert tail.startswith(f"START RequestId: {request} Version: $LATEST\n") and "said hello\n" in tail, tail
    assert f"END RequestId: {request}\nREPORT RequestId: {request}\tDuration: " in tail and "Memory Size: 128 MB" in tail
    assert value["arn"] == "arn:aws:lambda:us-east-1:000000000000:function:Tail_1" and value["name"] == "Tail_1"
    assert value["id"] == request and value["group"] == "/aws/lambda/Tail_1" and value["client"] == {"a": "b"}, value


def an_answer_streams_as_events():
    create("streams", "def handler(event, context):\n    return {'x': 'y' * 100}\n")
    answer = client.invoke_with_response_stream(FunctionName="streams", Payload="{}")
    events = list(answer["EventStream"])
    payload = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert json.loads(payload) == {"x": "y" * 100} and "InvokeComplete" in events[-1], events
    assert answer["ExecutedVersion"] == "$LATEST"


def an_event_is_accepted_and_runs_and_a_failed_one_again():
    code = """def handler(event, context):
    print("ran", event["mark"])
    raise ValueError("again")
"""
    create("later", code)
    client.put_function_event_invoke_config(FunctionName="later", MaximumRetryAttempts=1)
    answer = client.invoke(FunctionName="later", InvocationType="Event", Payload=json.dumps({"mark": "m1"}))
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    logs = boto3.client("logs")
    end = time.time() + 60
    while True:
        found = logs.filter_log_events(logGroupName="/aws/lambda/later", filterPattern="ran")["events"]
        if len(found) == 2 or time.time() > end:
            break
        time.sleep(0.5)
    assert [event["message"] for event in found] == ["ran m1", "ran m1"], found


def what_is_wrong_gets_the_errors_of_aws():
    arn = "arn:aws:lambda:us-east-1:000000000000:function:"
    told = fails("ResourceNotFoundException", 404, f"^Function not found: {arn}none$", client.invoke, FunctionName="none").response
    assert told["Type"] == "User" and told["Message"].startswith("Function not found"), told
    create("wrong")
    fails("ResourceConflictException", 409, "^Function already exist: wrong$", client.create_function, FunctionName="wrong",
          Runtime=RUNTIME, Role=ROLE, Handler="a.b", Code={"ZipFile": archive(ECHO)})
    fails("InvalidParameterValueException", 400, "^Could not unzip uploaded file", client.create_function,
          FunctionName="w2", Runtime=RUNTIME, Role=ROLE, Handler="a.b", Code={"ZipFile": b"x"})
    fails("InvalidParameterValueException", 400, "^Value cobol at 'runtime' failed", client.create_function,
          FunctionName="w2", Runtime="cobol", Role=ROLE, Handler="a.b", Code={"ZipFile": archive(ECHO)})
    fails("ValidationException", 400, "^1 validation error detected: Value 'r' at 'role' failed to satisfy constraint: "
          "Member must satisfy regular expression pattern: ", client.create_function, FunctionName="w2", Runtime=RUNTIME,
          Role="r", Handler="a.b", Code={"ZipFile": archive(ECHO)})
    fails("ValidationException", 400, "Value '1' at 'memorySize' failed to satisfy constraint: Member must have value "
          "greater than or equal to 128", raw.update_function_configuration, FunctionName="wrong", MemorySize=1)
    fails("InvalidRequestContentException", 400, "^Could not parse request body into json", client.invoke,
          FunctionName="wrong", Payload=b"{")
    fails("RequestEntityTooLargeException", 413, "must be smaller than 6291456 bytes for the InvokeFunction operation",
          client.invoke, FunctionName="wrong", Payload=b'"' + b"x" * (7 << 20) + b'"')
    fails("PreconditionFailedException", 412, "^The Revision Id provided does not match", client.publish_version,
          FunctionName="wrong", RevisionId="x")
    fails("ResourceNotFoundException", 404, "^The resource you requested does not exist.$", client.get_policy,
          FunctionName="wrong")
    fails("ResourceNotFoundException", 404, f"^Cannot find alias arn: {arn}wrong:a$", client.get_alias,
          FunctionName="wrong", Name="a")
    other = "arm64" if os.uname().machine == "x86_64" else "x86_64"
    fails("ValidationException", 400, "at 'architectures' failed", client.create_function, FunctionName="w2",
          Runtime=RUNTIME, Role=ROLE, Handler="a.b", Code={"ZipFile": archive(ECHO)}, Architectures=[other])
    client.put_function_concurrency(FunctionName="wrong", ReservedConcurrentExecutions=0)
    told = fails("TooManyRequestsException", 429, "^Rate Exceeded.$", client.invoke, FunctionName="wrong").response
    assert told["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", told
    fails("UnknownOperationException", 404, "does not offer", client.list_capacity_providers)


def lists_are_paged():
    for index in range(3):
        create(f"page-{index}")
        client.publish_version(FunctionName=f"page-{index}")
    pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
    names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    assert names == sorted(names) and {f"page-{i}" for i in range(3)} <= set(names), names
    first = client.list_functions(MaxItems=1)
    assert len(first["Functions"]) == 1 and first["NextMarker"]
    assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & set(first["Functions"][0])
    every = client.list_functions(FunctionVersion="ALL")["Functions"]
    assert {"$LATEST", "1"} == {each["Version"] for each in every if each["FunctionName"] == "page-0"}
    for name in ["a", "b", "c"]:
        client.create_alias(FunctionName="page-0", Name=name, FunctionVersion="1")
    pages = client.get_paginator("list_aliases").paginate(FunctionName="page-0", PaginationConfig={"PageSize": 1})
    assert [each["Name"] for page in pages for each in page["Aliases"]] == ["a", "b", "c"]


def every_paginator_and_waiter_of_the_sdk_comes_to_its_end():
    create("walked")
    for waiter in ["function_exists", "function_active", "function_active_v2", "function_updated", "function_updated_v2"]:
        client.get_waiter(waiter).wait(FunctionName="walked")
    for number in range(3):
        client.update_function_configuration(FunctionName="walked", Description=f"{number}")
        updated("walked")
        version = client.publish_version(FunctionName="walked")["Version"]
        client.get_waiter("published_version_active").wait(FunctionName="walked", Qualifier=version)
        client.create_alias(FunctionName="walked", Name=f"a{number}", FunctionVersion=version)
        client.create_function_url_config(FunctionName="walked", Qualifier=f"a{number}", AuthType="NONE")
        client.put_function_event_invoke_config(FunctionName="walked", Qualifier=version, MaximumRetryAttempts=0)
        queue = f"arn:aws:sqs:us-east-1:000000000000:walked-{number}"
        client.create_event_source_mapping(FunctionName="walked", EventSourceArn=queue)
        client.publish_layer_version(LayerName="walked", Content={"ZipFile": archive(ECHO)})
        client.publish_layer_version(LayerName=f"walked-{number}", Content={"ZipFile": archive(ECHO)})
    publishers = {"SigningProfileVersionArns": ["arn:aws:signer:us-east-1:000000000000:/signing-profiles/a/b"]}
    for _ in range(3):
        signing = client.create_code_signing_config(AllowedPublishers=publishers)["CodeSigningConfig"]["CodeSigningConfigArn"]
    client.put_function_code_signing_config(FunctionName="walked", CodeSigningConfigArn=signing)
    for operation, result, least, asked in [
        ("list_functions", "Functions", 1, {}),
        ("list_versions_by_function", "Versions", 4, {"FunctionName": "walked"}),
        ("list_aliases", "Aliases", 3, {"FunctionName": "walked"}),
        ("list_function_url_configs", "FunctionUrlConfigs", 3, {"FunctionName": "walked"}),
        ("list_function_event_invoke_configs", "FunctionEventInvokeConfigs", 3, {"FunctionName": "walked"}),
        ("list_event_source_mappings", "EventSourceMappings", 3, {"FunctionName": "walked"}),
        ("list_layers", "Layers", 4, {}),
        ("list_layer_versions", "LayerVersions", 3, {"LayerName": "walked"}),
        ("list_code_signing_configs", "CodeSigningConfigs", 3, {}),
        ("list_functions_by_code_signing_config", "FunctionArns", 1, {"CodeSigningConfigArn": signing}),
        ("list_provisioned_concurrency_configs", "ProvisionedConcurrencyConfigs", 0, {"FunctionName": "walked"}),
    ]:
        pages = list(client.get_paginator(operation).paginate(**asked, PaginationConfig={"PageSize": 2}))
        items = [json.dumps(item, default=str) for page in pages for item in page[result]]
        assert len(items) >= least and len(set(items)) == len(items), (operation, items)
        assert all(len(page[result]) <= 2 for page in pages), operation


def settings_are_kept_and_given_back():
    create("settings")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:settings"
    assert client.put_function_concurrency(FunctionName="settings", ReservedConcurrentExecutions=5)[
        "ReservedConcurrentExecutions"] == 5
    assert client.get_function_concurrency(FunctionName="settings")["ReservedConcurrentExecutions"] == 5
    assert client.get_function(FunctionName="settings")["Concurrency"] == {"ReservedConcurrentExecutions": 5}
    client.delete_function_concurrency(FunctionName="settings")
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="settings")
    fails("InvalidParameterValueException", 400, r"below its minimum value of \[100\]", client.put_function_concurrency,
          FunctionName="settings", ReservedConcurrentExecutions=901)
    url = client.create_function_url_config(FunctionName="settings", AuthType="NONE", Cors={"AllowOrigins": ["*"]})
    assert url["FunctionArn"] == arn and url["Cors"] == {"AllowOrigins": ["*"]} and url["AuthType"] == "NONE"
    everyone("settings")
    import urllib.request
    assert json.load(urllib.request.urlopen(url["FunctionUrl"]))["version"] == "2.0"
    assert client.get_function_url_config(FunctionName="settings")["InvokeMode"] == "BUFFERED"
    fails("ResourceConflictException", 409, "FunctionUrlConfig exists", client.create_function_url_config,
          FunctionName="settings", AuthType="NONE")
    assert len(client.list_function_url_configs(FunctionName="settings")["FunctionUrlConfigs"]) == 1
    client.delete_function_url_config(FunctionName="settings")
    put = client.put_function_event_invoke_config(FunctionName="settings", MaximumRetryAttempts=0)
    assert put["FunctionArn"] == arn + ":$LATEST" and put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    assert put["LastModified"].year >= 2024
    fails("InvalidParameterValueException", 400, "^You can't specify the function as a destination for itself.$",
          client.put_function_event_invoke_config, FunctionName="settings", DestinationConfig={"OnFailure": {"Destination": arn}})
    fails("ResourceNotFoundException", 404, "^The function doesn't exist.$", client.put_function_event_invoke_config,
          FunctionName="none", MaximumRetryAttempts=0)
    fails("ResourceNotFoundException", 404, "doesn't have an EventInvokeConfig", client.get_function_event_invoke_config,
          FunctionName="settings", Qualifier=client.publish_version(FunctionName="settings")["Version"])
    queue = "arn:aws:sqs:us-east-1:000000000000:jobs"
    mapping = client.create_event_source_mapping(EventSourceArn=queue, FunctionName="settings", BatchSize=3)
    assert mapping["State"] == "Creating" and mapping["FunctionArn"] == arn and mapping["BatchSize"] == 3
    end = time.time() + 60
    while client.get_event_source_mapping(UUID=mapping["UUID"])["State"] != "Enabled":
        assert time.time() < end
        time.sleep(0.1)
    assert len(client.list_event_source_mappings(FunctionName="settings")["EventSourceMappings"]) == 1
    assert client.delete_event_source_mapping(UUID=mapping["UUID"])["State"] == "Deleting"
    limits = client.get_account_settings()
    assert limits["AccountLimit"]["ConcurrentExecutions"] == 1000 and limits["AccountUsage"]["FunctionCount"] >= 1
    assert client.get_function_recursion_config(FunctionName="settings")["RecursiveLoop"] == "Terminate"
    client.put_runtime_management_config(FunctionName="settings", UpdateRuntimeOn="FunctionUpdate")
    assert client.get_runtime_management_config(FunctionName="settings")["UpdateRuntimeOn"] == "FunctionUpdate"


def tags_policies_and_signing_are_kept():
    create("tagged")
    arn = client.get_function(FunctionName="tagged")["Configuration"]["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    added = client.add_permission(FunctionName="tagged", StatementId="s3", Action="lambda:InvokeFunction",
                                  Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::b")
    statement = json.loads(added["Statement"])
    assert statement == {"Sid": "s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
                         "Action": "lambda:InvokeFunction", "Resource": arn,
                         "Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:s3:::b"}}}, statement
    policy = json.loads(client.get_policy(FunctionName="tagged")["Policy"])
    assert policy["Statement"] == [statement] and policy["Version"] == "2012-10-17"
    client.remove_permission(FunctionName="tagged", StatementId="s3")
    fails("InvalidParameterValueException", 400, "^The provided principal was invalid.", client.add_permission,
          FunctionName="tagged", StatementId="no", Action="lambda:InvokeFunction", Principal="invalid.example.com")
    config = client.create_code_signing_config(AllowedPublishers={"SigningProfileVersionArns": [
        "arn:aws:signer:us-east-1:000000000000:/signing-profiles/a/b"]})["CodeSigningConfig"]
    client.put_function_code_signing_config(FunctionName="tagged", CodeSigningConfigArn=config["CodeSigningConfigArn"])
    got = client.get_function_code_signing_config(FunctionName="tagged")
    assert got["CodeSigningConfigArn"] == config["CodeSigningConfigArn"]


def a_role_is_assumed_for_a_time():
    role = "arn:aws:iam::000000000000:role/path/any"
    sts = boto3.client("sts")
    assumed = sts.assume_role(RoleArn=role, RoleSessionName="me@work", DurationSeconds=900)
    given, arn = assumed["Credentials"], "arn:aws:sts::000000000000:assumed-role/any/me@work"
    assert assumed["AssumedRoleUser"]["Arn"] == arn and 600 < given["Expiration"].timestamp() - time.time() <= 901, assumed

    def session(secret):
        return boto3.Session(given["AccessKeyId"], secret, given["SessionToken"])

    own = session(given["SecretAccessKey"])
    identity = own.client("sts").get_caller_identity()
    assert identity["Arn"] == arn and identity["UserId"] == assumed["AssumedRoleUser"]["AssumedRoleId"], identity
    assert "Functions" in own.client("lambda").list_functions()
    own.client("sqs").create_queue(QueueName="assumed")
    own.client("s3").create_bucket(Bucket="assumed")
    assert own.client("sts").assume_role(RoleArn=role, RoleSessionName="on")["Credentials"]["AccessKeyId"]
    fails("SignatureDoesNotMatch", 403, "signature", session("wrong").client("sts").get_caller_identity)
    fails("InvalidSignatureException", 403, "signature", session("wrong").client("lambda").list_functions)
    other = role.replace("000000000000", "111111111111")
    fails("AccessDenied", 403, f"is not authorized to perform: sts:AssumeRole on resource: {other}$", sts.assume_role,
          RoleArn=other, RoleSessionName="me")
    free = boto3.client("sts", config=Config(parameter_validation=False))
    fails("ValidationError", 400, "^1 validation error detected: Value 'x' at 'roleSessionName' failed to satisfy constraint: "
          "Member must have length greater than or equal to 2$", free.assume_role, RoleArn=role, RoleSessionName="x")
    fails("ValidationError", 400, "Value '899' at 'durationSeconds' failed", free.assume_role, RoleArn=role,
          RoleSessionName="me", DurationSeconds=899)


def roles_identity_and_logs_are_there():
    identity = boto3.client("sts").get_caller_identity()
    assert identity["Account"] == "000000000000", identity
    iam = boto3.client("iam")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = iam.create_role(RoleName="my.role", AssumeRolePolicyDocument=trust)["Role"]
    assert role["Arn"] == "arn:aws:iam::000000000000:role/my.role" and role["AssumeRolePolicyDocument"]["Statement"] == []
    iam.attach_role_policy(RoleName="my.role", PolicyArn="arn:aws:iam::aws:policy/AWSLambdaExecute")
    assert iam.list_attached_role_policies(RoleName="my.role")["AttachedPolicies"][0]["PolicyName"] == "AWSLambdaExecute"
    fails("EntityAlreadyExists", 409, "already exists", iam.create_role, RoleName="my.role", AssumeRolePolicyDocument=trust)
    fails("NoSuchEntity", 404, "cannot be found", iam.get_role, RoleName="none")
    iam.detach_role_policy(RoleName="my.role", PolicyArn="arn:aws:iam::aws:policy/AWSLambdaExecute")
    iam.delete_role(RoleName="my.role")
    create("logged", "def handler(event, context):\n    print('one line')\n")
    call("logged")
    logs = boto3.client("logs")
    end = time.time() + 30
    while not (streams := logs.describe_log_streams(logGroupName="/aws/lambda/logged")["logStreams"]):
        assert time.time() < end
        time.sleep(0.2)
    events = logs.get_log_events(logGroupName="/aws/lambda/logged", logStreamName=streams[0]["logStreamName"])["events"]
    assert streams[0]["logStreamName"].split("/")[3].startswith("[$LATEST]"), streams
    messages = [event["message"] for event in events]
    end = time.time() + 30
    while not any(message.startswith("REPORT RequestId: ") for message in messages):
        assert time.time() < end, messages
        time.sleep(0.2)
        events = logs.get_log_events(logGroupName="/aws/lambda/logged", logStreamName=streams[0]["logStreamName"])["events"]
        messages = [event["message"] for event in events]
    start, line, ended, report = messages
    request = start.removeprefix("START RequestId: ").removesuffix(" Version: $LATEST\n")
    assert (line, ended) == ("one line", f"END RequestId: {request}\n"), messages
    assert report.startswith(f"REPORT RequestId: {request}\tDuration: ") and "\tInit Duration: " in report, report
    fails("ResourceNotFoundException", 400, "log group does not exist", logs.filter_log_events, logGroupName="none")


def a_wrong_key_or_secret_is_refused():
    for key, secret, code in [
        ("AKIANOBODY", "x", "UnrecognizedClientException"),
        (os.environ["AWS_ACCESS_KEY_ID"], "wrong", "InvalidSignatureException"),
    ]:
        other = boto3.client("lambda", aws_access_key_id=key, aws_secret_access_key=secret)
        fails(code, 403, "", other.list_functions)


globals()[sys.argv[1]]()
