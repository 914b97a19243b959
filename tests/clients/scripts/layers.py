"""Tests of layers with boto3, one function each; the first argument says which."""

import subprocess
import sys
import urllib.request

from common import ECHO, ROLE, RUNTIME, archive, archived, call, client, create, fails, updated

ARN = "arn:aws:lambda:us-east-1:000000000000:layer:"


def publish(name, files, mode=0o644, **more):
    made = client.publish_layer_version(LayerName=name, Content={"ZipFile": archived(files, mode)}, **more)
    return made["LayerVersionArn"]


def a_python_function_imports_a_module_of_a_layer():
    one = publish("words", {"python/words.py": "SAID = 'first'\n", "python/kept.py": "SAID = 'kept'\n", "note.txt": "a"})
    over = publish("over", {"python/words.py": "SAID = 'second'\n", "note.txt": "b"})
    versioned = publish("versioned", {f"python/lib/{RUNTIME}/site-packages/deep.py": "SAID = 'deep'\n"})
    code = """import words, kept, deep
def handler(event, context):
    return [words.SAID, kept.SAID, deep.SAID, open("/opt/note.txt").read()]
"""
    create("with-layers", code, Layers=[one, over, versioned])
    config = client.get_function_configuration(FunctionName="with-layers")
    assert [layer["Arn"] for layer in config["Layers"]] == [one, over, versioned], config
    assert all(layer["CodeSize"] > 0 for layer in config["Layers"])
    # Unpacked in their order: what comes later lies above.
    assert call("with-layers")[1] == ["second", "kept", "deep", "b"]
    client.update_function_configuration(FunctionName="with-layers", Layers=[over, one, versioned])
    updated("with-layers")
    assert call("with-layers")[1] == ["first", "kept", "deep", "a"]
    # A function keeps what was deleted, and a published version its layers.
    version = client.publish_version(FunctionName="with-layers")["Version"]
    client.get_waiter("published_version_active").wait(FunctionName="with-layers", Qualifier=version)
    client.delete_layer_version(LayerName="words", VersionNumber=1)
    client.update_function_code(FunctionName="with-layers", ZipFile=archive(code + "#\n"))
    updated("with-layers")
    assert call("with-layers")[1] == ["first", "kept", "deep", "a"]
    client.update_function_configuration(FunctionName="with-layers", Layers=[])
    updated("with-layers")
    assert "Layers" not in client.get_function_configuration(FunctionName="with-layers")
    assert call("with-layers")[1]["errorType"] == "Runtime.ImportModuleError"
    assert call("with-layers", Qualifier=version)[1] == ["first", "kept", "deep", "a"]


def a_node_function_requires_a_package_of_a_layer():
    package = {"nodejs/node_modules/words/package.json": '{"name": "words", "version": "1.0.0"}',
               "nodejs/node_modules/words/index.js": "exports.said = 'from the layer'\n"}
    arn = publish("node-words", package)
    node = "nodejs" + subprocess.check_output(["node", "--version"], text=True)[1:].split(".")[0] + ".x"
    code = "exports.handler = async (event) => [require('words').said, process.env.NODE_PATH]\n"
    create("node-layers", Runtime=node, Handler="index.handler", Code={"ZipFile": archive(code, "index.js")}, Layers=[arn])
    said, path = call("node-layers")[1]
    assert said == "from the layer" and "/opt/nodejs/node_modules" in path.split(":"), (said, path)


BOOTSTRAP = """#!/usr/bin/python3
import os, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{base}/next") as answer:
        id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
    with urllib.request.urlopen(urllib.request.Request(f"{base}/{id}/response", data=b'"from /opt/bootstrap"')):
        pass
"""
EXTENSION = """#!/usr/bin/python3
import os, urllib.request
base = f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2020-01-01/extension"
register = urllib.request.Request(f"{base}/register", data=b'{"events": []}', headers={"Lambda-Extension-Name": "told"})
with urllib.request.urlopen(register) as answer:
    id = answer.headers["Lambda-Extension-Identifier"]
open("/tmp/extension", "w").write("it ran")
urllib.request.urlopen(urllib.request.Request(f"{base}/event/next", headers={"Lambda-Extension-Identifier": id}))
"""


def a_layer_brings_the_runtime_an_extension_and_a_wrapper():
    runtime = publish("runtime", {"bootstrap": BOOTSTRAP}, mode=0o755)
    create("own-runtime", Runtime="provided.al2023", Layers=[runtime])
    assert call("own-runtime")[1] == "from /opt/bootstrap"
    tools = publish("tools", {"extensions/told": EXTENSION, "wrap": "#!/bin/sh\nWRAPPED=yes exec \"$@\"\n",
                              "bin/hello": "#!/bin/sh\necho hello\n"}, mode=0o755)
    code = """import os, subprocess
def handler(event, context):
    return [open("/tmp/extension").read(), os.environ["WRAPPED"], subprocess.check_output(["hello"], text=True)]
"""
    create("tools", code, Layers=[tools], Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}})
    assert call("tools")[1] == ["it ran", "yes", "hello\n"]


def layers_are_published_listed_shared_and_deleted():
    content = archive("x", "python/x.py")
    made = client.publish_layer_version(LayerName="lib", Description="a", Content={"ZipFile": content}, LicenseInfo="MIT",
                                        CompatibleRuntimes=["python3.11", "python3.12"], CompatibleArchitectures=["x86_64"])
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (made["Version"], made["LayerArn"], made["LayerVersionArn"]) == (1, ARN + "lib", ARN + "lib:1"), made
    assert made["Content"]["CodeSize"] == len(content) and made["LicenseInfo"] == "MIT" and made["Description"] == "a"
    got = client.get_layer_version(LayerName="lib", VersionNumber=1)
    assert urllib.request.urlopen(got["Content"]["Location"]).read() == content
    assert got["CompatibleRuntimes"] == ["python3.11", "python3.12"] and got["CompatibleArchitectures"] == ["x86_64"]
    publish("lib", {"a": "2"})
    assert client.get_layer_version_by_arn(Arn=ARN + "lib:2")["Version"] == 2
    listed = client.list_layer_versions(LayerName="lib")["LayerVersions"]
    assert [each["Version"] for each in listed] == [2, 1] and "Content" not in listed[0]
    assert [each["Version"] for each in client.list_layer_versions(LayerName="lib", CompatibleRuntime="python3.12")[
        "LayerVersions"]] == [1]
    [layer] = [each for each in client.list_layers()["Layers"] if each["LayerName"] == "lib"]
    assert layer["LatestMatchingVersion"]["Version"] == 2 and layer["LayerArn"] == ARN + "lib"
    pages = client.get_paginator("list_layer_versions").paginate(LayerName="lib", PaginationConfig={"PageSize": 1})
    assert [each["Version"] for page in pages for each in page["LayerVersions"]] == [2, 1]
    fails("ResourceNotFoundException", 404, "^No policy is associated with the given resource.$",
          client.get_layer_version_policy, LayerName="lib", VersionNumber=1)
    added = client.add_layer_version_permission(LayerName="lib", VersionNumber=1, StatementId="all",
                                                Action="lambda:GetLayerVersion", Principal="*")
    policy = client.get_layer_version_policy(LayerName="lib", VersionNumber=1)
    assert added["RevisionId"] == policy["RevisionId"] and added["Statement"] in policy["Policy"]
    client.remove_layer_version_permission(LayerName="lib", VersionNumber=1, StatementId="all")
    client.delete_layer_version(LayerName="lib", VersionNumber=2)
    fails("ResourceNotFoundException", 404, "^The resource you requested does not exist.$", client.get_layer_version,
          LayerName="lib", VersionNumber=2)
    # A number is never given twice.
    assert publish("lib", {"a": "3"}) == ARN + "lib:3"


def what_is_wrong_with_layers_is_told_as_aws_tells_it():
    one, two = publish("same", {"a": "1"}), publish("same", {"a": "2"})
    many = [publish(f"many-{number}", {"a": "1"}) for number in range(6)]
    code = {"ZipFile": archive(ECHO)}
    for said, layers in [
        ("^Cannot reference more than 5 layers.$", many),
        (f"^Layer version {ARN}none:1 does not exist.$", [ARN + "none:1"]),
        (f"^Two different versions of the same layer are not allowed to be referenced in the same function. {one} and {two} "
         "are versions of the same layer.$", [one, two]),
        ("^Layers are not in the same region as the function. Layers are expected to be in region us-east-1.$",
         [one.replace("us-east-1", "eu-west-1")]),
    ]:
        fails("InvalidParameterValueException", 400, said, client.create_function, FunctionName="no", Runtime=RUNTIME,
              Role=ROLE, Handler="a.b", Code=code, Layers=layers)
    fails("ValidationException", 400, "at 'layers' failed to satisfy constraint", client.create_function, FunctionName="no",
          Runtime=RUNTIME, Role=ROLE, Handler="a.b", Code=code, Layers=[ARN + "same"])
    fails("InvalidParameterValueException", 400, "^Layer Version Cannot be less than 1$", client.get_layer_version,
          LayerName="same", VersionNumber=0)
    large = publish("large", {"zeros": bytes(150 << 20)})
    larger = publish("larger", {"zeros": bytes(101 << 20)})
    fails("InvalidParameterValueException", 400, "^Function code combined with layers exceeds the maximum allowed size of "
          r"262144000 bytes. The actual size is \d+ bytes.$", client.create_function, FunctionName="no", Runtime=RUNTIME,
          Role=ROLE, Handler="a.b", Code=code, Layers=[large, larger])


globals()[sys.argv[1]]()
