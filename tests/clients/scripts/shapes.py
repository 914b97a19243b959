"""Tests with boto3 of what the Lambda API answers, held beside what AWS answers; the first argument says which."""

import base64
import json
import sys

from common import ARCHIVE_MAX, ROLE, RUNTIME, archive, archived, call, client, create, everyone, fails, http, raw, \
    until, updated

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:"
NOT_LATEST = "^The Revision Id provided does not match the latest Revision Id. Call the {} API to retrieve the latest Revision Id$"
WRONG = NOT_LATEST.format("GetFunction/GetAlias")


def revision(name, **more):
    return client.get_function_configuration(FunctionName=name, **more)["RevisionId"]


def untyped(error):
    assert "Type" not in error.response, error.response


def a_version_is_active_when_its_publication_is_answered():
    made = create("rev", Environment={"Variables": {}})
    assert made["Environment"] == {"Variables": {}} and "Environment" not in create("bare")
    first = revision("rev")
    assert first != made["RevisionId"]
    one = client.publish_version(FunctionName="rev", RevisionId=first)
    assert (one["State"], one["LastUpdateStatus"], one["FunctionArn"]) == ("Active", "Successful", ARN + "rev:1"), one
    assert "StateReason" not in one and one["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert one["RevisionId"] == revision("rev", Qualifier="1") != revision("rev") != first
    assert call("rev", Qualifier="1")[0]["ExecutedVersion"] == "1"
    again = client.publish_version(FunctionName="rev")
    assert (again["Version"], again["RevisionId"]) == ("1", one["RevisionId"])
    fails("PreconditionFailedException", 412, WRONG, client.publish_version, FunctionName="rev", RevisionId=first)
    changed = client.update_function_configuration(FunctionName="rev", Description="x", RevisionId=revision("rev"))
    assert (changed["LastUpdateStatus"], changed["LastUpdateStatusReasonCode"]) == ("InProgress", "Creating"), changed
    updated("rev")
    assert revision("rev") != changed["RevisionId"]
    two = client.update_function_code(FunctionName="rev", ZipFile=archive("def handler(e, c): return 2\n"), Publish=True)
    assert (two["FunctionArn"], two["State"], two["StateReasonCode"]) == (ARN + "rev:2", "Pending", "Creating"), two
    assert "LastUpdateStatus" not in two
    client.get_waiter("published_version_active").wait(FunctionName="rev", Qualifier="2")
    at_once = create("at-once", Publish=True)
    assert (at_once["FunctionArn"], at_once["Version"]) == (ARN + "at-once", "1"), at_once
    client.get_waiter("published_version_active").wait(FunctionName="at-once", Qualifier="1")
    listed = client.list_versions_by_function(FunctionName="rev")["Versions"]
    assert [(each["Version"], each["FunctionArn"]) for each in listed] == [
        (version, ARN + "rev:" + version) for version in ("$LATEST", "1", "2")]
    assert not any("State" in each or "RuntimeVersionConfig" in each for each in listed), listed


def tags_and_policies_change_the_revision_of_what_they_are_for():
    create("permits")
    before = revision("permits")
    client.tag_resource(Resource=ARN + "permits", Tags={"a": "b"})
    tagged = revision("permits")
    assert tagged != before
    allow = {"FunctionName": "permits", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
    fails("PreconditionFailedException", 412, WRONG, client.add_permission, **allow, StatementId="a", RevisionId=before)
    client.add_permission(**allow, StatementId="a", RevisionId=tagged)
    policy = client.get_policy(FunctionName="permits")
    assert policy["RevisionId"] == revision("permits") != tagged
    client.publish_version(FunctionName="permits")
    assert client.get_policy(FunctionName="permits")["RevisionId"] == revision("permits") != policy["RevisionId"]
    gone = "^The resource you requested does not exist.$"
    for qualifier in ["1", "42"]:
        fails("ResourceNotFoundException", 404, gone, client.get_policy, FunctionName="permits", Qualifier=qualifier)
    alias = client.create_alias(FunctionName="permits", Name="live", FunctionVersion="1")
    client.add_permission(**allow, StatementId="a", Qualifier="live", RevisionId=alias["RevisionId"])
    assert (client.get_policy(FunctionName="permits", Qualifier="live")["RevisionId"]
            == client.get_alias(FunctionName="permits", Name="live")["RevisionId"] != alias["RevisionId"])
    fails("PreconditionFailedException", 412, WRONG, client.remove_permission, FunctionName="permits", StatementId="a",
          RevisionId="wrong")
    client.remove_permission(FunctionName="permits", StatementId="a", RevisionId=revision("permits"))
    for action, more, said in [
        (client.add_permission, {**allow, "StatementId": "b", "Qualifier": "none"}, f"^Cannot find alias arn: {ARN}permits:none$"),
        (client.add_permission, {**allow, "StatementId": "b", "Qualifier": "42"}, f"^Function not found: {ARN}permits:42$"),
        (client.remove_permission, {"FunctionName": "none", "StatementId": "a"}, f"^No policy found for: {ARN}none$"),
        (client.remove_permission, {"FunctionName": "permits", "StatementId": "a"},
         "^No policy is associated with the given resource.$"),
    ]:
        fails("ResourceNotFoundException", 404, said, action, **more)
    fails("InvalidParameterValueException", 400, r"^We currently do not support adding policies for \$LATEST.$",
          client.add_permission, **allow, StatementId="b", Qualifier="$LATEST")


def aliases_and_concurrency_are_refused_in_the_words_of_aws():
    create("words")
    client.publish_version(FunctionName="words")
    alias = {"FunctionName": "words", "Name": "a", "FunctionVersion": "1"}
    fails("ResourceNotFoundException", 404, f"^Function not found: {ARN}none:1$", client.create_alias,
          **{**alias, "FunctionName": "none"})
    routing = {"AdditionalVersionWeights": {"1": 0.5}}
    untyped(fails("InvalidParameterValueException", 400, r"^\$LATEST is not supported for an alias pointing to more than 1 "
                  "version$", client.create_alias, **{**alias, "FunctionVersion": "$LATEST", "RoutingConfig": routing}))
    fails("ValidationException", 400, r"Value '\{2=-1.0\}' at 'routingConfig.additionalVersionWeights' failed to satisfy "
          r"constraint: Map value must satisfy constraint: \[Member must have value less than or equal to 1.0, Member must "
          r"have value greater than or equal to 0.0, Member must not be null\]$", raw.create_alias,
          **alias, RoutingConfig={"AdditionalVersionWeights": {"2": -1}})
    reserve = client.put_function_concurrency
    fails("ResourceNotFoundException", 404, rf"^Function not found: {ARN}none:\$LATEST$", reserve, FunctionName="none",
          ReservedConcurrentExecutions=1)
    fails("InvalidParameterValueException", 400, "^This operation is permitted on Lambda functions only. Aliases and versions "
          "do not support this operation. Please specify either a function name or an unqualified function ARN.$", reserve,
          FunctionName=ARN + "words:1", ReservedConcurrentExecutions=1)
    provisioned = client.get_provisioned_concurrency_config
    for name, qualifier, said in [("none", "no", f"Cannot find alias arn: {ARN}none:no"),
                                  ("words", "no", f"Cannot find alias arn: {ARN}words:no"),
                                  ("none", "1", f"Function not found: {ARN}none:1")]:
        fails("ResourceNotFoundException", 404, f"^{said}$", provisioned, FunctionName=name, Qualifier=qualifier)
    # All that is reserved is provisioned for a version: none is left for the others.
    reserve(FunctionName="words", ReservedConcurrentExecutions=1)
    client.put_provisioned_concurrency_config(FunctionName="words", Qualifier="1", ProvisionedConcurrentExecutions=1)
    until("the provisioned instance", lambda: provisioned(FunctionName="words", Qualifier="1")["Status"] == "READY")
    fails("TooManyRequestsException", 429, "^Rate Exceeded.$", client.invoke, FunctionName="words")
    assert call("words", Qualifier="1")[0]["ExecutedVersion"] == "1"
    untyped(fails("InvalidParameterValueException", 400, "^ ReservedConcurrentExecutions  0 should not be lower than "
                  r"function's total provisioned concurrency \[1\].$", reserve, FunctionName="words",
                  ReservedConcurrentExecutions=0))


def destinations_mappings_and_signing_are_refused_in_the_words_of_aws():
    create("sends")
    create("other")
    put = client.put_function_event_invoke_config
    done = put(FunctionName="sends", DestinationConfig={"OnSuccess": {"Destination": ARN + "other"}})
    assert done["DestinationConfig"] == {"OnSuccess": {"Destination": ARN + "other"}, "OnFailure": {}}, done
    fails("InvalidParameterValueException", 400, f"^The destination ARN {ARN}none is invalid.$", put, FunctionName="sends",
          DestinationConfig={"OnSuccess": {"Destination": ARN + "none"}})
    role = "arn:aws:iam:us-east-1:000000000000:role/r"
    fails("InvalidParameterValueException", 400, r"^The provided destination config DestinationConfig\(onSuccess=OnSuccess\("
          rf"destination={role}\), onFailure=null\) is invalid.$", put, FunctionName="sends",
          DestinationConfig={"OnSuccess": {"Destination": role}})
    fails("ResourceNotFoundException", 404, "^The function doesn't exist.$", put, FunctionName="none",
          DestinationConfig={"OnSuccess": {"Destination": ARN + "none"}})
    map_to = client.create_event_source_mapping
    fails("InvalidParameterValueException", 400, "^Function does not exist$", map_to, FunctionName="none",
          EventSourceArn=QUEUE + "shapes")
    fails("InvalidParameterValueException", 400, "^StartingPosition is not valid for SQS event sources.$", map_to,
          FunctionName="sends", EventSourceArn=QUEUE + "shapes", StartingPosition="LATEST")
    fails("InvalidParameterValueException", 400, "^Invalid filter pattern definition.$", map_to, FunctionName="sends",
          EventSourceArn=QUEUE + "shapes", FilterCriteria={"Filters": [{"Pattern": "null"}]})
    off = map_to(FunctionName="sends", EventSourceArn=QUEUE + "shapes", Enabled=False)
    assert (off["State"], off["StateTransitionReason"]) == ("Disabled", "USER_INITIATED"), off
    fails("ResourceConflictException", 409, rf'^An event source mapping with SQS arn \(" {QUEUE}shapes "\) and function '
          rf'\(" sends "\) already exists. Please update or delete the existing mapping with UUID {off["UUID"]}$', map_to,
          FunctionName="sends", EventSourceArn=QUEUE + "shapes")
    missing = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdef0"
    untyped(fails("ResourceNotFoundException", 404, f"^The Lambda code signing configuration {missing} can not be found.$",
                  client.get_code_signing_config, CodeSigningConfigArn=missing))
    fails("CodeSigningConfigNotFoundException", 404, f"not deleted: {missing}.$", client.put_function_code_signing_config,
          CodeSigningConfigArn=missing, FunctionName="none")


def layers_and_archives_are_refused_in_the_words_of_aws():
    content = {"ZipFile": archived({"a": "b"})}
    before = client.get_account_settings()["AccountUsage"]["TotalCodeSize"]
    made = client.publish_layer_version(LayerName="told", Content=content)
    after = client.get_account_settings()["AccountUsage"]["TotalCodeSize"]
    assert after >= before + made["Content"]["CodeSize"], (before, after)
    layer = {"LayerName": "told", "VersionNumber": 1}
    fails("ResourceNotFoundException", 404, ":layer:told:2 does not exist.$", client.get_layer_version_policy,
          LayerName="told", VersionNumber=2)
    allow = {**layer, "Action": "lambda:GetLayerVersion", "Principal": "*"}
    client.add_layer_version_permission(**allow, StatementId="a")
    fails("PreconditionFailedException", 412, NOT_LATEST.format("GetLayerPolicy"), client.add_layer_version_permission,
          **allow, StatementId="b", RevisionId="wrong")
    fails("InvalidParameterValueException", 400, "^Layer Version Cannot be less than 1$", client.get_layer_version,
          LayerName="told", VersionNumber=-1)
    fails("ValidationException", 400, r"Value '\[ppc\]' at 'compatibleArchitectures' failed to satisfy constraint: Member must "
          r"satisfy constraint: \[Member must satisfy enum value set: \[x86_64, arm64\]\]$", raw.publish_layer_version,
          LayerName="told", Content=content, CompatibleArchitectures=["ppc"])
    code = {"FunctionName": "large", "Role": ROLE, "Runtime": RUNTIME, "Handler": "a.b"}
    fails("InvalidParameterValueException", 400, "^The runtime parameter of python3.7 is no longer supported for creating or "
          r"updating AWS Lambda functions. We recommend you use the new runtime \(python3.12\) while creating or updating "
          "functions.$", client.create_function, **{**code, "Runtime": "python3.7"}, Code={"ZipFile": archive("")})
    fails("ValidationException", 400, "^1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member "
          "must have value less than or equal to 900$", client.create_function, **code, Timeout=901, Code={"ZipFile": archive("x")})
    fails("RequestEntityTooLargeException", 413, "^Request must be smaller than 70167211 bytes for the CreateFunction "
          "operation$", client.create_function, **code, Code={"ZipFile": b"x" * (ARCHIVE_MAX + (1 << 20))})


def what_ends_early_or_is_no_json_is_told_as_aws_tells_it():
    create("ends", "import sys\ndef handler(event, context):\n    sys.exit(event['status'])\n")
    for status, said in [(0, "Runtime exited without providing a reason"), (3, "Runtime exited with error: exit status 3")]:
        answer, told = call("ends", {"status": status})
        assert answer["FunctionError"] == "Unhandled" and told["errorType"] == "Runtime.ExitError", told
        assert told["errorMessage"].endswith(" Error: " + said), told
    create("never", "import sys\nsys.exit(0)\n")
    told = call("never")[1]
    assert told["errorMessage"].endswith(" Error: Runtime exited without providing a reason"), told
    fails("InvalidRequestContentException", 400, "^Could not parse request body into json: Could not parse payload into json: "
          r"Invalid UTF-8 start byte 0x87\n at \[Source: \(byte\[\]\)\"n.r\"; line: 1, column: 3\]$", client.invoke,
          FunctionName="ends", Payload=b"n\x87r")
    create("cold")
    tail = base64.b64decode(client.invoke(FunctionName="cold", LogType="Tail")["LogResult"]).decode()
    assert "\tInit Duration: " in tail and tail.endswith(" ms\t\n"), tail
    dry = client.invoke(FunctionName="cold", InvocationType="DryRun")
    assert dry["StatusCode"] == 204 and "ExecutedVersion" not in dry, dry


def a_url_that_lets_everyone_in_says_so_in_a_policy():
    create("public")
    made = client.create_function_url_config(FunctionName="public", AuthType="NONE")
    assert sorted(made.keys()) == ["AuthType", "CreationTime", "FunctionArn", "FunctionUrl", "ResponseMetadata"], made
    status, headers, body = http(made["FunctionUrl"])
    assert (status, json.loads(body)) == (403, {"Message": "Forbidden"}), (status, body)
    everyone("public")
    assert http(made["FunctionUrl"])[0] == 200
    client.remove_permission(FunctionName="public", StatementId="url")
    # A statement for somebody else lets nobody else in.
    client.add_permission(FunctionName="public", StatementId="some", Action="lambda:InvokeFunctionUrl", Principal="*",
                          FunctionUrlAuthType="NONE", SourceAccount="111111111111")
    assert http(made["FunctionUrl"])[0] == 403
    fails("ResourceNotFoundException", 404, "^Function does not exist$", client.update_function_url_config,
          FunctionName="public", Qualifier="none", AuthType="NONE")
    changed = client.update_function_url_config(FunctionName="public", InvokeMode="RESPONSE_STREAM")
    assert changed["InvokeMode"] == "RESPONSE_STREAM"
    assert "InvokeMode" not in client.update_function_url_config(FunctionName="public", AuthType="NONE")


globals()[sys.argv[1]]()
