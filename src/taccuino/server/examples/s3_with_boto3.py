"""Your object storage with boto3: no keys in the code, and none on the disk.

boto3 asks the agent of this notebook server for credentials and renews them by itself, so a
program may run for days. Run it with:  python3 s3_with_boto3.py
"""

import os
import sys

import boto3
from botocore.exceptions import BotoCoreError, ClientError

bucket = os.environ.get("TACCUINO_BUCKET")
if not bucket:
    sys.exit("TACCUINO_BUCKET is not set: run this inside a notebook server of the service.")

s3 = boto3.client("s3")
key = "examples/written-with-boto3.txt"

try:
    s3.put_object(Bucket=bucket, Key=key, Body=b"Hello from boto3!\n")
    text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    print(f"s3://{bucket}/{key} holds: {text!r}")

    print(f"\nThe first objects in {bucket}:")
    for item in s3.list_objects_v2(Bucket=bucket, MaxKeys=10).get("Contents", []):
        print(f"{item['Size']:>10} bytes  {item['Key']}")

    # The same bucket is the directory cloud_storage/<your name> in the Files view: what is
    # written here appears there a few seconds later, and the other way round.
    s3.delete_object(Bucket=bucket, Key=key)
except (BotoCoreError, ClientError) as error:
    sys.exit(f"The object storage refused or did not answer: {error}")
