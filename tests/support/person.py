"""A person without a browser: follows links and fills forms over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlparse

import requests


class _Forms(HTMLParser):
    """The forms of a page: action, method, fields and named buttons."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.forms.append(
                {
                    "action": values.get("action") or "",
                    "method": (values.get("method") or "get").lower(),
                    "fields": {},
                    "buttons": [],
                }
            )
            self._open = True
        elif self._open and tag in ("input", "button") and values.get("name"):
            if tag == "button" or values.get("type") == "submit":
                self.forms[-1]["buttons"].append((values["name"], values.get("value") or ""))
            else:
                self.forms[-1]["fields"][values["name"]] = values.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False


class Person:
    """One user of a running instance: logs in through the IAM's own pages, calls the API."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url, self.username, self.password = url, username, password
        self.http = requests.Session()
        self._token: str | None = None

    def login(self) -> requests.Response:
        """Log in, consent if asked, and return the hub's answer (an error page included)."""
        page = self.http.get(f"{self.url}/hub/oauth_login", timeout=30)
        hub = urlparse(self.url).netloc
        for _ in range(8):
            if urlparse(page.url).netloc == hub:
                return page
            page = self._answer_form(page)
        raise AssertionError(f"the login does not end: {page.url}\n{page.text[:2000]}")

    def _answer_form(self, page: requests.Response) -> requests.Response:
        parser = _Forms()
        parser.feed(page.text)
        for form in parser.forms:
            if form["method"] != "post":
                continue
            fields = dict(form["fields"])
            if "login" in fields:
                fields["login"] = self.username
            if "password" in fields:
                fields["password"] = self.password
            buttons = dict(form["buttons"])
            if buttons:
                name = "answer" if "answer" in buttons else next(iter(buttons))
                accept = [value for key, value in form["buttons"] if value == "accept"]
                fields[name] = accept[0] if accept else buttons[name]
            return self.http.post(urljoin(page.url, form["action"]), data=fields, timeout=30)
        raise AssertionError(f"no form at {page.url} ({page.status_code}):\n{page.text[:2000]}")

    @property
    def token(self) -> str:
        """An API token of this user's, made with the logged-in session."""
        if self._token is None:
            if not any(c.name.startswith("jupyterhub-hub-login") for c in self.http.cookies):
                self.login()
            self.http.get(f"{self.url}/hub/home", timeout=30)
            xsrf = next(c.value for c in self.http.cookies if c.name == "_xsrf")
            answer = self.http.post(
                f"{self.url}/hub/api/users/{self.username}/tokens",
                json={"note": "test"},
                headers={"X-XSRFToken": xsrf or "", "Referer": f"{self.url}/hub/token"},
                timeout=30,
            )
            assert answer.status_code == 201, answer.text
            self._token = answer.json()["token"]
        return self._token

    def api(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Call JupyterHub's REST API, or (path begins with ``/user``) the notebook server."""
        prefix = "" if path.startswith("/user/") else "/hub/api"
        headers = {"Authorization": f"token {self.token}", **kwargs.pop("headers", {})}
        kwargs.setdefault("timeout", 60)
        return requests.request(method, f"{self.url}{prefix}{path}", headers=headers, **kwargs)

    def start(self, **options: Any) -> list[dict[str, Any]]:
        """Start the notebook server, follow its progress to the end, return the events."""
        answer = self.api("POST", f"/users/{self.username}/server", json=options)
        assert answer.status_code in (201, 202), f"{answer.status_code}: {answer.text}"
        return list(self.progress())

    def progress(self) -> Iterator[dict[str, Any]]:
        """The events of the start that is under way."""
        path = f"/users/{self.username}/server/progress"
        with self.api("GET", path, stream=True, timeout=180) as answer:
            assert answer.status_code == 200, answer.text
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    yield event
                    if event.get("ready") or event.get("failed"):
                        return

    def stop(self, limit: float = 90) -> None:
        """Stop the notebook server and wait until it is gone."""
        answer = self.api("DELETE", f"/users/{self.username}/server")
        assert answer.status_code in (202, 204, 400, 404), answer.text
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            user = self.api("GET", f"/users/{self.username}").json()
            if not user.get("servers") and not user.get("pending"):
                return
            time.sleep(0.2)
        raise AssertionError(f"the server of {self.username} has not stopped in {limit} s")
