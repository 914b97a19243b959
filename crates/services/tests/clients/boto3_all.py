"""Everything that boto3 asks of the service of objects. Arguments: the endpoint. Prints the name of each check that holds."""

import base64
import hashlib
import io
import sys
import urllib.error
import urllib.request
import zlib

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]


def client(key="AKALICE", secret="alice-secret", **config):
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config),
    )


s3 = client()
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def fails(code, status, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert found == (code, status), found
        return error.response
    raise AssertionError(f"{code} was expected")


@check
def buckets():
    s3.create_bucket(Bucket="one")
    s3.create_bucket(Bucket="two.with-dots")
    fails("BucketAlreadyOwnedByYou", 409, s3.create_bucket, Bucket="one")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["one", "two.with-dots"]
    s3.head_bucket(Bucket="one")
    fails("404", 404, s3.head_bucket, Bucket="none")
    assert s3.get_bucket_location(Bucket="one")["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket="one")
    s3.delete_bucket(Bucket="two.with-dots")
    fails("NoSuchBucket", 404, s3.list_objects_v2, Bucket="two.with-dots")


@check
def put_get_head_delete():
    put = s3.put_object(
        Bucket="one",
        Key="k",
        Body=b"hello world",
        ContentType="text/plain",
        CacheControl="no-store",
        ContentDisposition='attachment; filename="x"',
        ContentEncoding="identity",
        ContentLanguage="de",
        Metadata={"colour": "blue"},
        Tagging="a=1&b=two%20words",
    )
    assert put["ETag"] == f'"{hashlib.md5(b"hello world").hexdigest()}"'
    for found in (s3.get_object(Bucket="one", Key="k"), s3.head_object(Bucket="one", Key="k")):
        assert found["ContentLength"] == 11 and found["ETag"] == put["ETag"]
        assert (found["ContentType"], found["CacheControl"]) == ("text/plain", "no-store")
        assert (found["ContentLanguage"], found["ContentEncoding"]) == ("de", "identity")
        assert found["ContentDisposition"] == 'attachment; filename="x"'
        assert found["Metadata"] == {"colour": "blue"}
        if "Body" in found:
            assert found["Body"].read() == b"hello world" and found["TagCount"] == 2
    s3.put_object(Bucket="one", Key="empty", Body=b"")
    assert s3.get_object(Bucket="one", Key="empty")["Body"].read() == b""
    s3.delete_object(Bucket="one", Key="k")
    s3.delete_object(Bucket="one", Key="k")
    fails("NoSuchKey", 404, s3.get_object, Bucket="one", Key="k")
    fails("404", 404, s3.head_object, Bucket="one", Key="k")
    fails("NoSuchBucket", 404, s3.put_object, Bucket="none", Key="k", Body=b"x")


@check
def ranges():
    s3.put_object(Bucket="one", Key="r", Body=b"0123456789")
    for wanted, bytes, range in [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-4", b"6789", "bytes 6-9/10"),
    ]:
        found = s3.get_object(Bucket="one", Key="r", Range=wanted)
        assert found["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert (found["Body"].read(), found["ContentRange"]) == (bytes, range), wanted
        assert s3.head_object(Bucket="one", Key="r", Range=wanted)["ContentLength"] == len(bytes)
    fails("InvalidRange", 416, s3.get_object, Bucket="one", Key="r", Range="bytes=10-")


@check
def conditions():
    etag = s3.put_object(Bucket="one", Key="c", Body=b"1", IfNoneMatch="*")["ETag"]
    fails("PreconditionFailed", 412, s3.put_object, Bucket="one", Key="c", Body=b"2", IfNoneMatch="*")
    fails("PreconditionFailed", 412, s3.put_object, Bucket="one", Key="c", Body=b"2", IfMatch='"00"')
    fails("NoSuchKey", 404, s3.put_object, Bucket="one", Key="c-none", Body=b"2", IfMatch=etag)
    found = s3.get_object(Bucket="one", Key="c", IfMatch=etag)
    assert found["Body"].read() == b"1"
    same = fails("304", 304, s3.get_object, Bucket="one", Key="c", IfNoneMatch=etag)
    assert same["ResponseMetadata"]["HTTPHeaders"]["etag"] == etag
    fails("304", 304, s3.get_object, Bucket="one", Key="c", IfModifiedSince=found["LastModified"])
    fails("304", 304, s3.head_object, Bucket="one", Key="c", IfNoneMatch=etag)
    fails("PreconditionFailed", 412, s3.get_object, Bucket="one", Key="c", IfMatch='"00"')
    fails("PreconditionFailed", 412, s3.get_object, Bucket="one", Key="c", IfUnmodifiedSince="2001-01-01")
    s3.get_object(Bucket="one", Key="c", IfModifiedSince="2001-01-01", IfMatch=etag)
    assert s3.put_object(Bucket="one", Key="c", Body=b"2", IfMatch=etag)["ETag"] != etag


@check
def response_overrides():
    s3.put_object(Bucket="one", Key="o", Body=b"x", ContentType="text/plain")
    found = s3.get_object(
        Bucket="one", Key="o", ResponseContentType="image/png", ResponseContentDisposition="inline", ResponseCacheControl="no-cache"
    )
    assert (found["ContentType"], found["ContentDisposition"], found["CacheControl"]) == ("image/png", "inline", "no-cache")


@check
def checksums():
    body = b"check me" * 1000
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    sha1 = base64.b64encode(hashlib.sha1(body).digest()).decode()
    sha256 = base64.b64encode(hashlib.sha256(body).digest()).decode()
    for name, value in [("CRC32", crc), ("SHA1", sha1), ("SHA256", sha256)]:
        # The client computes it: as a header of a put of bytes, as a trailer of a stream.
        for stream in (body, io.BytesIO(body)):
            put = s3.put_object(Bucket="one", Key=name, Body=stream, ChecksumAlgorithm=name)
            assert put[f"Checksum{name}"] == value, put
        found = s3.get_object(Bucket="one", Key=name, ChecksumMode="ENABLED")
        assert found["Body"].read() == body and found[f"Checksum{name}"] == value
        assert f"Checksum{name}" in s3.head_object(Bucket="one", Key=name, ChecksumMode="ENABLED")
        attributes = s3.get_object_attributes(Bucket="one", Key=name, ObjectAttributes=["ETag", "ObjectSize", "Checksum"])
        assert attributes["ObjectSize"] == len(body) and attributes["Checksum"][f"Checksum{name}"] == value
        fails("BadDigest", 400, s3.put_object, Bucket="one", Key=name, Body=b"other", **{f"Checksum{name}": value})
    crc32c = base64.b64encode((0xE3069283).to_bytes(4, "big")).decode()
    nvme = base64.b64encode((0xAE8B14860A799888).to_bytes(8, "big")).decode()
    s3.put_object(Bucket="one", Key="crc32c", Body=b"123456789", ChecksumCRC32C=crc32c)
    s3.put_object(Bucket="one", Key="nvme", Body=b"123456789", ChecksumCRC64NVME=nvme)
    fails("BadDigest", 400, s3.put_object, Bucket="one", Key="crc32c", Body=b"123456780", ChecksumCRC32C=crc32c)
    fails("BadDigest", 400, s3.put_object, Bucket="one", Key="nvme", Body=b"123456780", ChecksumCRC64NVME=nvme)
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    fails("BadDigest", 400, s3.put_object, Bucket="one", Key="md5", Body=b"this", ContentMD5=wrong)
    right = base64.b64encode(hashlib.md5(b"this").digest()).decode()
    s3.put_object(Bucket="one", Key="md5", Body=b"this", ContentMD5=right)
    # Without checksums by default, as older clients.
    old = client(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    old.put_object(Bucket="one", Key="old", Body=io.BytesIO(body))
    assert old.get_object(Bucket="one", Key="old")["Body"].read() == body


@check
def multipart():
    body = bytes(range(256)) * (80 << 10)
    assert len(body) == 20 << 20
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
    for extra in ({}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC32"}):
        s3.upload_fileobj(io.BytesIO(body), "one", "big", Config=config, ExtraArgs={"Metadata": {"a": "b"}, **extra})
        head = s3.head_object(Bucket="one", Key="big")
        parts = b"".join(hashlib.md5(body[at : at + (5 << 20)]).digest() for at in range(0, len(body), 5 << 20))
        assert head["ETag"] == f'"{hashlib.md5(parts).hexdigest()}-4"', head
        assert (head["ContentLength"], head["Metadata"]) == (20 << 20, {"a": "b"})
        back = io.BytesIO()
        s3.download_fileobj("one", "big", back, Config=config)
        assert back.getvalue() == body
    across = s3.get_object(Bucket="one", Key="big", Range=f"bytes={(5 << 20) - 10}-{(5 << 20) + 9}")
    assert across["Body"].read() == body[(5 << 20) - 10 : (5 << 20) + 10]


@check
def multipart_by_hand():
    part = b"p" * (5 << 20)
    upload = s3.create_multipart_upload(Bucket="one", Key="m", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")["UploadId"]
    at = {"Bucket": "one", "Key": "m", "UploadId": upload}
    first = s3.upload_part(PartNumber=1, Body=part, ChecksumAlgorithm="CRC32", **at)
    s3.put_object(Bucket="one", Key="source", Body=b"-source-")
    copied = s3.upload_part_copy(PartNumber=2, CopySource="one/source", CopySourceRange="bytes=1-6", **at)["CopyPartResult"]
    fails("InvalidRange", 416, s3.upload_part_copy, PartNumber=3, CopySource="one/source", CopySourceRange="bytes=1-60", **at)
    listed = s3.list_parts(**at)
    assert [(found["PartNumber"], found["Size"]) for found in listed["Parts"]] == [(1, 5 << 20), (2, 6)]
    page = s3.list_parts(MaxParts=1, **at)
    assert page["IsTruncated"] and page["NextPartNumberMarker"] == 1
    assert [found["PartNumber"] for found in s3.list_parts(PartNumberMarker=1, **at)["Parts"]] == [2]
    other = s3.create_multipart_upload(Bucket="one", Key="m/2")["UploadId"]
    uploads = s3.list_multipart_uploads(Bucket="one")["Uploads"]
    assert [(found["Key"], found["UploadId"]) for found in uploads] == [("m", upload), ("m/2", other)]
    page = s3.list_multipart_uploads(Bucket="one", MaxUploads=1)
    assert page["IsTruncated"]
    rest = s3.list_multipart_uploads(Bucket="one", KeyMarker=page["NextKeyMarker"], UploadIdMarker=page["NextUploadIdMarker"])
    assert [found["UploadId"] for found in rest["Uploads"]] == [other]
    wanted = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": copied["ETag"]}]
    fails("InvalidPart", 400, s3.complete_multipart_upload, MultipartUpload={"Parts": [wanted[0], {"PartNumber": 9, "ETag": "x"}]}, **at)
    fails("InvalidPartOrder", 400, s3.complete_multipart_upload, MultipartUpload={"Parts": wanted[::-1]}, **at)
    crc = base64.b64encode(zlib.crc32(part + b"source").to_bytes(4, "big")).decode()
    done = s3.complete_multipart_upload(MultipartUpload={"Parts": wanted}, **at)
    assert done["ETag"].endswith('-2"') and (done["ChecksumCRC32"], done["ChecksumType"]) == (crc, "FULL_OBJECT"), done
    assert s3.get_object(Bucket="one", Key="m")["Body"].read() == part + b"source"
    fails("NoSuchUpload", 404, s3.upload_part, PartNumber=1, Body=b"x", **at)
    s3.abort_multipart_upload(Bucket="one", Key="m/2", UploadId=other)
    fails("NoSuchUpload", 404, s3.list_parts, Bucket="one", Key="m/2", UploadId=other)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="one")


@check
def copies():
    s3.put_object(Bucket="one", Key="from ä+&", Body=b"copied", Metadata={"a": "1"}, ContentType="text/x", Tagging="t=1")
    source = {"Bucket": "one", "Key": "from ä+&"}
    result = s3.copy_object(Bucket="one", Key="to", CopySource=source)["CopyObjectResult"]
    assert result["ETag"] == f'"{hashlib.md5(b"copied").hexdigest()}"'
    head = s3.head_object(Bucket="one", Key="to")
    assert (head["Metadata"], head["ContentType"]) == ({"a": "1"}, "text/x")
    s3.copy_object(
        Bucket="one", Key="to", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"}, TaggingDirective="REPLACE", Tagging="u=2"
    )
    assert s3.head_object(Bucket="one", Key="to")["Metadata"] == {"b": "2"}
    assert s3.get_object_tagging(Bucket="one", Key="to")["TagSet"] == [{"Key": "u", "Value": "2"}]
    s3.copy_object(Bucket="one", Key="to", CopySource="one/to", MetadataDirective="REPLACE", Metadata={"c": "3"})
    assert s3.get_object(Bucket="one", Key="to")["Body"].read() == b"copied"
    fails("InvalidRequest", 400, s3.copy_object, Bucket="one", Key="to", CopySource="one/to")
    fails("NoSuchKey", 404, s3.copy_object, Bucket="one", Key="x", CopySource="one/none")
    fails("PreconditionFailed", 412, s3.copy_object, Bucket="one", Key="x", CopySource="one/to", CopySourceIfMatch='"00"')
    s3.copy_object(Bucket="one", Key="big-copy", CopySource="one/big")
    assert s3.head_object(Bucket="one", Key="big-copy")["ETag"] == s3.head_object(Bucket="one", Key="big")["ETag"]


@check
def tagging():
    s3.put_object(Bucket="one", Key="t", Body=b"x", Tagging="a=1")
    s3.put_object_tagging(Bucket="one", Key="t", Tagging={"TagSet": [{"Key": "b", "Value": "ü 2"}]})
    assert s3.get_object_tagging(Bucket="one", Key="t")["TagSet"] == [{"Key": "b", "Value": "ü 2"}]
    s3.delete_object_tagging(Bucket="one", Key="t")
    assert s3.get_object_tagging(Bucket="one", Key="t")["TagSet"] == []
    many = [{"Key": str(number), "Value": "x"} for number in range(11)]
    fails("InvalidTag", 400, s3.put_object_tagging, Bucket="one", Key="t", Tagging={"TagSet": many})


@check
def special_keys():
    s3.create_bucket(Bucket="special")
    keys = ["a b", "a+b", "a%2Fb", "ä/ö/ü", "日本語", "a//b", "/lead", "trail/", "dots/../x", "./here", "q?a=b&c", "#h", "'\"<>&", "emoji-😀", "~t", "x" * 1024, "tab\there", "nl\n"]
    for key in keys:
        s3.put_object(Bucket="special", Key=key, Body=key.encode())
    for key in keys:
        assert s3.get_object(Bucket="special", Key=key)["Body"].read() == key.encode(), key
    listed = [found["Key"] for found in s3.list_objects_v2(Bucket="special")["Contents"]]
    assert listed == sorted(keys, key=str.encode), listed
    listed = [found["Key"] for found in s3.list_objects(Bucket="special")["Contents"]]
    assert listed == sorted(keys, key=str.encode), listed
    fails("KeyTooLongError", 400, s3.put_object, Bucket="special", Key="x" * 1025, Body=b"")
    deleted = s3.delete_objects(Bucket="special", Delete={"Objects": [{"Key": key} for key in keys if key != "nl\n"]})
    assert len(deleted["Deleted"]) == len(keys) - 1 and "Errors" not in deleted
    s3.delete_object(Bucket="special", Key="nl\n")
    s3.delete_bucket(Bucket="special")


@check
def pages():
    from concurrent.futures import ThreadPoolExecutor

    s3.create_bucket(Bucket="many")
    keys = [f"{number % 5}/{number:04}" for number in range(2500)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket="many", Key=key, Body=b""), keys))
    keys.sort()
    for operation in ("list_objects", "list_objects_v2"):
        pages = list(s3.get_paginator(operation).paginate(Bucket="many"))
        assert [len(page["Contents"]) for page in pages] == [1000, 1000, 500], operation
        assert [found["Key"] for page in pages for found in page["Contents"]] == keys
        pages = list(s3.get_paginator(operation).paginate(Bucket="many", Delimiter="/", PaginationConfig={"PageSize": 2}))
        assert [len(page["CommonPrefixes"]) for page in pages] == [2, 2, 1], operation
        found = s3.get_paginator(operation).paginate(Bucket="many", Prefix="3/", Delimiter="/").build_full_result()
        assert len(found["Contents"]) == 500
    after = s3.list_objects_v2(Bucket="many", StartAfter="4/2489", FetchOwner=True)["Contents"]
    assert [found["Key"] for found in after] == ["4/2494", "4/2499"] and after[0]["Owner"]["ID"] == "alice"
    fails("InvalidArgument", 400, s3.list_objects_v2, Bucket="many", ContinuationToken="%%%")
    assert s3.list_objects_v2(Bucket="many", MaxKeys=0)["KeyCount"] == 0
    fails("BucketNotEmpty", 409, s3.delete_bucket, Bucket="many")
    for at in range(0, 2500, 1000):
        s3.delete_objects(Bucket="many", Delete={"Quiet": True, "Objects": [{"Key": key} for key in keys[at : at + 1000]]})
    s3.delete_bucket(Bucket="many")


def http(method, url, body=None, headers={}):
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@check
def presigned():
    # Without a choice of signature, boto3 takes version 2 for these.
    signing = client(signature_version="s3v4")
    put = signing.generate_presigned_url("put_object", Params={"Bucket": "one", "Key": "pre signed/ä"}, ExpiresIn=60)
    assert http("PUT", put, b"by url") == (200, b"")
    get = signing.generate_presigned_url("get_object", Params={"Bucket": "one", "Key": "pre signed/ä"}, ExpiresIn=60)
    assert http("GET", get) == (200, b"by url")
    assert http("GET", get, headers={"Range": "bytes=3-5"}) == (206, b"url")
    assert http("GET", get.replace("pre%20signed", "other"))[0] == 403
    assert http("PUT", get, b"x")[0] == 403
    old = client(signature_version="s3").generate_presigned_url("get_object", Params={"Bucket": "one", "Key": "k"})
    status, text = http("GET", old)
    assert status == 400 and b"Signature Version 4" in text


@check
def access():
    status, text = http("GET", f"{ENDPOINT}/one")
    assert status == 403 and b"AccessDenied" in text
    fails("InvalidAccessKeyId", 403, client(key="AKNONE").list_buckets)
    fails("SignatureDoesNotMatch", 403, client(secret="wrong").list_buckets)
    bob = client("AKBOB", "bob-secret")
    assert bob.list_buckets()["Buckets"] == []
    fails("NoSuchBucket", 404, bob.list_objects_v2, Bucket="one")
    fails("NoSuchBucket", 404, bob.get_object, Bucket="one", Key="r")
    bob.create_bucket(Bucket="one")
    fails("NoSuchKey", 404, bob.get_object, Bucket="one", Key="r")
    fails("NoSuchKey", 404, bob.copy_object, Bucket="one", Key="r2", CopySource="one/r")
    bob.delete_bucket(Bucket="one")


@check
def what_is_not_there_says_so():
    for call, arguments in [
        (s3.put_bucket_policy, {"Policy": "{}"}),
        (s3.get_bucket_policy, {}),
        (s3.get_bucket_acl, {}),
        (s3.put_bucket_versioning, {"VersioningConfiguration": {"Status": "Enabled"}}),
        (s3.list_object_versions, {}),
        (s3.put_object, {"Key": "acl", "Body": b"", "ACL": "public-read"}),
        (s3.put_object, {"Key": "sse", "Body": b"", "ServerSideEncryption": "AES256"}),
        (s3.get_object, {"Key": "r", "PartNumber": 1}),
    ]:
        fails("NotImplemented", 501, call, Bucket="one", **arguments)
    fails("NoSuchVersion", 404, s3.get_object, Bucket="one", Key="r", VersionId="7")
    fails("MetadataTooLarge", 400, s3.put_object, Bucket="one", Key="meta", Body=b"", Metadata={"a": "x" * 2100})
    form = s3.generate_presigned_post("one", "form")
    assert http("POST", form["url"], b"--x--", {"Content-Type": "multipart/form-data; boundary=x"})[0] == 501


for function in CHECKS:
    function()
    print("holds:", function.__name__, flush=True)
print("all hold")
