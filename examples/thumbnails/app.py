"""Keeps a thumbnail of each picture below in/ of a bucket: an AWS Lambda handler, as it would run there.

The records are S3's. boto3 finds the platform's own S3, and the function's key, in its environment.
"""

import io
import os
import urllib.parse

import boto3
from botocore.exceptions import ClientError
from PIL import Image, ImageOps, UnidentifiedImageError

SIDE = int(os.environ.get("SIDE", "256"))
TYPES = {"JPEG": "image/jpeg", "PNG": "image/png"}

s3 = boto3.client("s3")


def handler(event, context):
    done = []
    for record in event["Records"]:
        bucket = record["s3"]["bucket"]["name"]
        key = urllib.parse.unquote_plus(record["s3"]["object"]["key"])
        # Beside the pictures, not among them: else each thumbnail would rouse this function again.
        target = "thumbnails/" + key.removeprefix("in/")
        if record["eventName"].startswith("ObjectRemoved:"):
            s3.delete_object(Bucket=bucket, Key=target)
        elif not put(bucket, key, target):
            continue
        done.append(target)
    return {"done": done}


def put(bucket, key, target):
    try:
        picture = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            print(f"{key} is gone by now")
            return False
        raise
    try:
        small, kind = thumbnail(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        # Another attempt would find the same.
        print(f"{key} is no picture to make small: {error}")
        return False
    s3.put_object(Bucket=bucket, Key=target, Body=small, ContentType=TYPES[kind])
    return True


def thumbnail(picture):
    with Image.open(io.BytesIO(picture), formats=list(TYPES)) as image:
        kind = image.format
        # Cameras say in the file how it was held.
        image = ImageOps.exif_transpose(image)
        image.thumbnail((SIDE, SIDE))
        small = io.BytesIO()
        image.save(small, kind)
        return small.getvalue(), kind
