"""Writes accepted orders into the database. A message may come twice; its row comes once."""

import json
import os
from urllib.parse import unquote, urlsplit

import pg8000.native

connection = None


def database():
    """One connection for as long as the instance lives, opened again when it broke."""
    global connection
    if connection is None:
        url = urlsplit(os.environ["DATABASE_URL"])
        connection = pg8000.native.Connection(
            user=unquote(url.username),
            password=unquote(url.password or ""),
            host=url.hostname,
            port=url.port or 5432,
            database=url.path.lstrip("/"),
        )
    return connection


def store(order):
    database().run(
        "INSERT INTO orders (id, customer, item, cents) VALUES (CAST(:id AS uuid), :customer, :item, :cents)"
        " ON CONFLICT (id) DO NOTHING",
        **order,
    )


def handler(event, context):
    global connection
    failed = []
    for message in event["Records"]:
        try:
            # What the function before answered, in the record of its outcome.
            store(json.loads(message["body"])["responsePayload"])
        except Exception as error:
            print(f"an order was not stored: {error}")
            connection = None
            failed.append({"itemIdentifier": message["messageId"]})
    # Only those come again.
    return {"batchItemFailures": failed}
