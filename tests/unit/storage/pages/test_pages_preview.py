"""Previews: what is hostile comes out harmless, what is cut says so."""

from __future__ import annotations

import json

import pytest

from taccuino.settings import Settings
from taccuino.storage.pages.notebook import notebook_html, sanitized
from taccuino.storage.pages.preview import decoded, preview, table

PNG = "iVBORw0KGgo="


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<p class='x'>a</p>", '<p class="x">a</p>'),
        ("<script>alert(1)</script>b", "b"),
        ("<style>*{}</style>b", "b"),
        ("<p onclick=x() style='color:red' id=main>a</p>", "<p>a</p>"),
        ("<a href='javascript:x()'>a</a>", '<a rel="noopener noreferrer nofollow">a</a>'),
        ("<a href='data:text/html,x'>a</a>", '<a rel="noopener noreferrer nofollow">a</a>'),
        ("<img src='https://evil/x.png' onerror=x()>", "<img>"),
        (
            f"<img src='data:image/png;base64,{PNG}'>",
            f'<img src="data:image/png;base64,{PNG}">',
        ),
        ("<img src='data:image/svg+xml;base64,PHN2Zz4='>", "<img>"),
        ("<iframe src=//e></iframe><form action=/hub><input name=a></form>", ""),
        ("<svg onload=x()><script>1</script></svg>", ""),
        ("<b>&lt;script&gt;</b>", "<b>&lt;script&gt;</b>"),
    ],
)
def test_what_stays_of_html(html: str, kept: str) -> None:
    assert sanitized(html) == kept


def test_a_notebook_is_shown_without_what_runs() -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# Héllo\n<script>x()</script>"},
        {
            "cell_type": "code", "metadata": {}, "execution_count": 1, "source": "print('<b>')",
            "outputs": [
                {"output_type": "display_data", "metadata": {}, "data": {"image/png": PNG}},
                {"output_type": "stream", "name": "stdout", "text": "<i>out</i>"},
            ],
        },
    ]  # fmt: skip
    notebook = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": cells}
    html = notebook_html(json.dumps(notebook).encode())
    assert html is not None
    assert "Héllo" in html
    assert "<script" not in html
    assert f"data:image/png;base64,{PNG}" in html
    assert "&lt;i&gt;out&lt;/i&gt;" in html


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"no", b'{"nbformat": 99}', b"\xff"])
def test_what_is_no_notebook(data: bytes) -> None:
    assert notebook_html(data) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("\ufeffbom".encode(), "bom"),
        ("cut é".encode()[:-1], "cut "),
        ("ancien é".encode("latin-1") + b" latin", "ancien é latin"),
        (b"a\0b", None),
        (bytes(range(1, 256)), None),
    ],
)
def test_what_is_text(data: bytes, text: str | None) -> None:
    assert decoded(data) == text


def test_a_table_is_cut_and_says_so() -> None:
    assert table('a,b\n"x, y",2\n', ",") == ([["a", "b"], ["x, y", "2"]], False)
    rows, cut = table("\n".join("1" for _ in range(900)), ",")
    assert (len(rows), cut) == (500, True)
    assert table("a\nb\nhalf", ",", whole=False)[0] == [["a"], ["b"]]
    assert table("x" * 200_000, ",")[1]


def test_the_kinds(s3) -> None:
    settings = Settings.parse({"storage": {"endpoint": "https://s3.amazonaws.com"}})
    for key, kind in (
        ("a.txt", "text"), ("a.png", "image"), ("a.csv", "table"), ("a.svg", "image"),
    ):  # fmt: skip
        s3.put_object(Bucket="bucket", Key=key, Body=b"a,b")
        assert preview(settings, s3, "bucket", key)["kind"] == kind, key
    s3.put_object(Bucket="bucket", Key="a.ipynb", Body=b"{}")
    assert preview(settings, s3, "bucket", "a.ipynb") == b"{}"
    s3.put_object(Bucket="bucket", Key="binary", Body=b"\0\1")
    assert preview(settings, s3, "bucket", "binary")["kind"] == "none"
    s3.put_object(Bucket="bucket", Key="empty", Body=b"")
    assert preview(settings, s3, "bucket", "empty") == {
        "kind": "text",
        "text": "",
        "truncated": False,
    }
    s3.put_object(Bucket="bucket", Key="long.log", Body=b"line\n" * 200_000)
    shown = preview(settings, s3, "bucket", "long.log")
    assert shown["truncated"]
    assert len(shown["text"]) == 512 * 1024
