"""A person at the storage pages, without a browser."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlparse

import requests

from support.person import Person


class StoragePages:
    """The pages' calls, as the page itself makes them: with the session and its token."""

    def __init__(self, person: Person) -> None:
        self.person, self.http = person, person.http
        self.url = f"{person.url}/services/storage/"
        person.login()
        page = self.http.get(self.url, timeout=60)
        assert page.status_code == 200, page.text
        self.xsrf = re.search(r'name="xsrf-token" content="([^"]+)"', page.text)[1]
        self.bucket = person.username

    def call(self, method: str, path: str, body: Any = None, **query: Any) -> requests.Response:
        """One call of the API."""
        return self.http.request(
            method,
            f"{self.url}api/{path}",
            json=body,
            params=query,
            headers={"X-XSRFToken": self.xsrf},
            allow_redirects=False,
            timeout=120,
        )

    def ok(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        """One that must succeed; its JSON."""
        answer = self.call(method, path, body, **query)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def put(self, key: str, data: bytes, bucket: str | None = None) -> None:
        """Upload a small file."""
        begun = self.ok(
            "POST",
            "uploads",
            {
                "bucket": bucket or self.bucket,
                "key": key,
                "size": len(data),
                "type": "text/plain",
            },
        )
        assert begun["upload_id"] is None
        answer = requests.put(begun["url"], data=data, timeout=60)
        assert answer.status_code == 200, answer.text

    def get(self, key: str, **query: Any) -> requests.Response:
        """Download a file by the address that a browser is sent to."""
        asked = {"bucket": self.bucket, "key": key, **query}
        answer = self.call("GET", "download", **asked)
        assert answer.status_code == 302, answer.text
        target = answer.headers["Location"]
        assert urlparse(target).netloc == urlparse(self.url).netloc
        return requests.get(target, timeout=60)

    def names(self, prefix: str = "", bucket: str | None = None) -> set[str]:
        """The keys of files and folders in a folder."""
        page = self.ok("GET", "list", bucket=bucket or self.bucket, prefix=prefix)
        return {item["key"] for item in (*page["folders"], *page["files"])}
