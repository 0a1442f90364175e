"""From an access token to the object storage, step by step.

boto3 does all this by itself (see s3_with_boto3.py). Do it by hand where a tool knows nothing
of the agent, or to see how it works:

1. ``oidc-token`` hands out an access token that says who you are;
2. the storage's STS takes it for temporary keys (AssumeRoleWithWebIdentity);
3. requests to S3 are signed with these keys.

Run it with:  python3 sts_by_hand.py
"""

import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET

import boto3
from botocore.exceptions import BotoCoreError, ClientError

try:
    bucket = os.environ["TACCUINO_BUCKET"]
    role = os.environ["TACCUINO_ROLE_ARN"]
    sts = os.environ["AWS_ENDPOINT_URL_STS"]
except KeyError as missing:
    sys.exit(f"{missing} is not set: run this inside a notebook server of the service.")
profile = os.environ.get("TACCUINO_OIDC_PROFILE", "infncloud")

# 1. The token. At a shell, the same is:  oidc-token infncloud
answer = subprocess.run(["oidc-token", profile], capture_output=True, text=True)
if answer.returncode != 0:
    sys.exit(f"oidc-token {profile} failed: {answer.stderr.strip()}")
token = answer.stdout.strip()
print(f"1. The token has {len(token)} characters. Keep it to yourself: it is you.")

# 2. The keys: one plain HTTP request, which needs no signature.
form = {
    "Action": "AssumeRoleWithWebIdentity",
    "Version": "2011-06-15",
    "RoleArn": role,
    "RoleSessionName": "by-hand",
    "DurationSeconds": "900",
    "WebIdentityToken": token,
}
try:
    with urllib.request.urlopen(
        sts, urllib.parse.urlencode(form).encode(), timeout=30
    ) as reply:
        document = ET.fromstring(reply.read())
except urllib.error.HTTPError as error:
    sys.exit(
        f"STS refused the token: {error.code} {error.read().decode(errors='replace')[:300]}"
    )
except urllib.error.URLError as error:
    sys.exit(f"STS at {sts} does not answer: {error.reason}")


def text(name: str) -> str:
    """The text of one element of the credentials."""
    # AWS answers in a namespace of its own, RadosGW in none.
    found = document.find(f".//{{*}}Credentials/{{*}}{name}")
    if found is None or not found.text:
        sys.exit(f"STS answered without {name}")
    return found.text


print(f"2. The keys are good until {text('Expiration')}; their id is {text('AccessKeyId')}.")

# 3. A signed request with exactly these keys.
s3 = boto3.client(
    "s3",
    aws_access_key_id=text("AccessKeyId"),
    aws_secret_access_key=text("SecretAccessKey"),
    aws_session_token=text("SessionToken"),
)
try:
    listing = s3.list_objects_v2(Bucket=bucket, MaxKeys=5)
except (BotoCoreError, ClientError) as error:
    sys.exit(f"The object storage refused or did not answer: {error}")
print(f"3. {bucket} answers; it holds at least {listing['KeyCount']} objects.")
