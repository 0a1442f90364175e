"""A storage in memory (moto), with a bucket that keeps versions."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws


@pytest.fixture
def s3() -> Iterator[object]:
    """A client; the bucket ``bucket`` keeps versions."""
    with mock_aws():
        client = boto3.client(
            "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="s"
        )
        client.create_bucket(Bucket="bucket")
        client.put_bucket_versioning(
            Bucket="bucket", VersioningConfiguration={"Status": "Enabled"}
        )
        yield client
