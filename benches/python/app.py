"""The least that a Lambda handler can do."""


def handler(event, context):
    return {"statusCode": 200, "body": "Hello, world!\n"}
