"""Many users of a running instance: made in the embedded IAM, logged in through its own pages.

Their starts are as real as anybody's: with a grant of the IAM's, a bucket, a role and mounts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from rich.progress import track

from support.instance import Instance
from support.person import Person

PASSWORD = "a-bench-password"
_LOGINS_AT_ONCE = 3
_MAKE = """
import json, sys
from pathlib import Path
from taccuino.local.iam_server import ensure_account, make_app
from taccuino.settings import Settings
order = json.load(sys.stdin)
with make_app(Settings.load(Path(order["settings"]))).app_context():
    for name in order["names"]:
        ensure_account({"username": name, "password": order["password"]})
"""


def make_people(instance: Instance, number: int) -> list[Person]:
    """So many users, each logged in once; accounts that are there already are used again."""
    people = make_accounts(instance, [f"bench{n:02d}" for n in range(number)])
    with ThreadPoolExecutor(_LOGINS_AT_ONCE) as pool:
        logins = pool.map(lambda person: person.token, people)
        list(track(logins, description="logging users in", total=number))
    return people


def make_accounts(instance: Instance, names: list[str]) -> list[Person]:
    """Accounts of the embedded IAM, nobody logged in yet."""
    settings = str(instance.state_dir / "settings.json")
    order = {"settings": settings, "names": names, "password": PASSWORD}
    subprocess.run(
        [sys.executable, "-c", _MAKE],
        input=json.dumps(order),
        text=True,
        check=True,
        capture_output=True,
        env=os.environ | {"AUTHLIB_INSECURE_TRANSPORT": "1"},
    )
    return [Person(instance.url, name, PASSWORD) for name in names]
