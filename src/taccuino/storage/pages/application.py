"""All calls and pages, joined to a tornado application."""

from __future__ import annotations

from typing import Any

from tornado.web import Application

from taccuino.edge.sites import SHARED_FILES
from taccuino.private_files import secret
from taccuino.settings import Settings
from taccuino.storage.mount_plane.credentials import CredentialSource
from taccuino.storage.provisioner import BucketProvisioner

from .clients import UserClients
from .handlers import browse, change, pages, share
from .handlers.base import CallbackHandler, Parts, security_headers
from .login import PREFIX, pages_auth
from .presentation import HUB_STATIC, STATIC, Presentation
from .records import Records
from .sharing import Sharing

__all__ = ["application"]

_CALLS = [
    ("buckets", browse.BucketsCall),
    ("list", browse.ListCall),
    ("search", browse.SearchCall),
    ("preview", browse.PreviewCall),
    ("download", browse.DownloadHandler),
    ("zip", browse.ZipHandler),
    ("uploads", change.UploadsCall),
    ("uploads/urls", change.UploadUrlsCall),
    ("uploads/complete", change.UploadCompleteCall),
    ("folders", change.FoldersCall),
    ("move", change.MoveCall),
    ("delete", change.DeleteCall),
    ("undo", change.UndoCall),
    ("versions", change.VersionsCall),
    ("restore", change.RestoreCall),
    ("deleted", change.DeletedCall),
    ("purge", change.PurgeCall),
    ("shares", share.SharesCall),
    (r"shares/([A-Za-z0-9_-]+)", share.ShareCall),
    ("scratch", share.ScratchCall),
    ("(.*)", pages.MissingCall),
]

_SHARED = rf"{SHARED_FILES}(?:([a-z0-9-]{{1,31}})/)?([A-Za-z0-9_-]{{32}})"
"""A link: the site's name may be before its id."""


def application(settings: Settings) -> Application:
    """The storage pages.

    Raises
    ------
    SettingsError
        If a secret's file can't be used.
    """
    token_file = settings.state_dir / "secrets/storage-pages-token"
    source = CredentialSource(
        f"http://127.0.0.1:{settings.hub.port}/hub/api/taccuino", token_file
    )
    token = secret(token_file)
    clients = UserClients(settings, source)
    records = Records(settings.state_dir / "storage-pages/records.sqlite")
    parts = Parts(
        settings=settings,
        auth=pages_auth(settings, token),
        clients=clients,
        provisioner=BucketProvisioner(settings),
        presentation=Presentation(settings),
        records=records,
        sharing=Sharing(settings, records, clients, token),
    )
    shared = {"parts": parts}
    routes: list[Any] = [
        *((f"{PREFIX}api/{path}", handler, shared) for path, handler in _CALLS),
        (f"{PREFIX}oauth_callback", CallbackHandler, shared),
        (f"{PREFIX}health", pages.HealthHandler, shared),
        (f"{PREFIX}login", pages.LoginHandler, shared),
        (_SHARED, share.SharedPage, shared),
        (f"{_SHARED}/download", share.SharedDownload, shared),
        # The version is in the path, so that modules which import each other share it.
        (rf"{PREFIX}static/[0-9a-f]+/hub/(.*)", pages.StaticHandler, {"path": str(HUB_STATIC)}),
        (rf"{PREFIX}static/[0-9a-f]+/(.*)", pages.StaticHandler, {"path": str(STATIC)}),
        (rf"{PREFIX}(?:browse/.*)?", pages.IndexHandler, shared),
    ]
    return Application(
        routes,
        cookie_secret=secret(settings.state_dir / "secrets/storage-pages-cookie-secret"),
        security_headers=security_headers(),
        default_handler_class=pages.MissingHandler,
        default_handler_args=shared,
        xsrf_cookie_kwargs={"samesite": "Lax", "secure": settings.edge.certificate is not None},
    )
