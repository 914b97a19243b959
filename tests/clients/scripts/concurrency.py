"""Tests of concurrency with boto3, one function each; the first argument says which."""

import sys
import threading
import time

from common import call, client, create, fails, until, updated

WAIT = """import os, time
BEGUN = time.time()
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return [BEGUN, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], context.function_version]
"""


def is_throttled(name):
    try:
        call(name)
        return None
    except client.exceptions.TooManyRequestsException as error:
        return error.response


def a_function_with_reserved_concurrency_runs_so_many_calls_and_throttles_the_next():
    create("reserved", WAIT, Timeout=60)
    version = client.publish_version(FunctionName="reserved")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="reserved", Qualifier=version)
    client.put_function_concurrency(FunctionName="reserved", ReservedConcurrentExecutions=1)
    answers = []

    def occupy():
        # It is not let in while a call below runs.
        answers.append(until("it is let in", lambda: attempt()))

    def attempt():
        try:
            return call("reserved", {"sleep": 20})
        except client.exceptions.TooManyRequestsException:
            return None

    for qualified in ["reserved", f"reserved:{version}"]:
        busy = threading.Thread(target=occupy)
        busy.start()
        told = until("it is throttled", lambda: is_throttled(qualified))
        assert told["ResponseMetadata"]["HTTPStatusCode"] == 429, told
        assert told["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", told
        assert told["Error"]["Message"] == "Rate Exceeded." and told["Type"] == "User", told
        busy.join()
    assert all("FunctionError" not in answer for answer, _ in answers) and len(answers) == 2
    client.delete_function_concurrency(FunctionName="reserved")
    updated("reserved")
    busy = threading.Thread(target=occupy)
    busy.start()
    until("both run", lambda: not is_throttled("reserved"))
    busy.join()


def what_a_function_reserves_no_other_function_takes():
    # The tenant is granted three calls at once.
    assert client.get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 3
    for name in ["kept-free", "greedy"]:
        create(name, WAIT, Timeout=60)
    fails("InvalidParameterValueException", 400, "decreases account's UnreservedConcurrentExecution below its minimum value",
          client.put_function_concurrency, FunctionName="kept-free", ReservedConcurrentExecutions=4)
    client.put_function_concurrency(FunctionName="kept-free", ReservedConcurrentExecutions=2)
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 1
    stop, busy, refused = threading.Event(), [], []

    def greed():
        while not stop.is_set():
            try:
                busy.append(call("greedy", {"sleep": 1}))
            except client.exceptions.TooManyRequestsException as error:
                refused.append(error.response)
                time.sleep(0.05)

    greedy = [threading.Thread(target=greed) for _ in range(4)]
    for each in greedy:
        each.start()
    try:
        told = until("the others are throttled", lambda: busy and refused and refused[-1])
        assert told["Reason"] == "ConcurrentInvocationLimitExceeded", told
        # What is reserved is there all the same, for two calls at once.
        for _ in range(5):
            answers = []
            pair = [threading.Thread(target=lambda: answers.append(call("kept-free", {"sleep": 0.2}))) for _ in range(2)]
            for each in pair:
                each.start()
            for each in pair:
                each.join()
            assert len(answers) == 2 and all("FunctionError" not in answer for answer, _ in answers), answers
    finally:
        stop.set()
        for each in greedy:
            each.join()


def provisioned_instances_are_there_before_the_first_call():
    create("warm", WAIT)
    version = client.publish_version(FunctionName="warm")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="warm", Qualifier=version)
    client.create_alias(FunctionName="warm", Name="live", FunctionVersion=version)
    assert call("warm", Qualifier="live")[1][1] == "on-demand"
    put = client.put_provisioned_concurrency_config(FunctionName="warm", Qualifier="live", ProvisionedConcurrentExecutions=2)
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (put["Status"], put["RequestedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 2), put
    assert (put["AvailableProvisionedConcurrentExecutions"], put["AllocatedProvisionedConcurrentExecutions"]) == (0, 0), put

    def ready():
        got = client.get_provisioned_concurrency_config(FunctionName="warm", Qualifier="live")
        return got["Status"] == "READY" and got

    got = until("they are there", ready)
    assert (got["AvailableProvisionedConcurrentExecutions"], got["AllocatedProvisionedConcurrentExecutions"]) == (2, 2), got
    called = time.time()
    begun, kind, number = call("warm", Qualifier="live")[1]
    assert begun < called and (kind, number) == ("provisioned-concurrency", version), (begun, called, kind)
    listed = client.list_provisioned_concurrency_configs(FunctionName="warm")["ProvisionedConcurrencyConfigs"]
    assert [(each["FunctionArn"].split(":")[-1], each["Status"]) for each in listed] == [("live", "READY")], listed
    fails("ResourceConflictException", 409, "^Version is pointed by a Provisioned Concurrency alias$",
          client.put_provisioned_concurrency_config, FunctionName="warm", Qualifier=version, ProvisionedConcurrentExecutions=1)
    fails("InvalidParameterValueException", 400, r"^ ReservedConcurrentExecutions  1 should not be lower than function's total "
          r"provisioned concurrency \[2\].$", client.put_function_concurrency, FunctionName="warm",
          ReservedConcurrentExecutions=1)
    client.delete_provisioned_concurrency_config(FunctionName="warm", Qualifier="live")
    fails("ProvisionedConcurrencyConfigNotFoundException", 404, "^No Provisioned Concurrency Config found for this function$",
          client.get_provisioned_concurrency_config, FunctionName="warm", Qualifier="live")
    until("they are gone", lambda: call("warm", Qualifier="live")[1][1] == "on-demand")
    fails("InvalidParameterValueException", 400, "^Provisioned Concurrency Configs cannot be applied to unpublished function "
          "versions.$", client.put_provisioned_concurrency_config, FunctionName="warm", Qualifier="$LATEST",
          ProvisionedConcurrentExecutions=1)


globals()[sys.argv[1]]()
