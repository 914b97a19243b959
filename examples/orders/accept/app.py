"""Takes an order over HTTP and checks it. What it returns goes to the queue; what it raises, among the rejected."""

import base64
import json
import uuid

ORDERS = uuid.UUID("6f1c2d4e-0b8a-4f53-9d57-3f6a1c0e9b21")


def handler(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = base64.b64decode(body).decode()
    order = json.loads(body)
    customer, item, cents = order["customer"], order["item"], order["cents"]
    if not all(isinstance(text, str) and text for text in (customer, item)):
        raise ValueError("customer and item must be texts")
    if not isinstance(cents, int) or cents <= 0:
        raise ValueError("cents must be a positive number")
    # The same for each attempt, so that an order that is handled twice is stored once.
    order_id = uuid.uuid5(ORDERS, context.aws_request_id)
    return {"id": str(order_id), "customer": customer, "item": item, "cents": cents}
