"""Another server extension, in the same process, meets the real modules."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from notebook_container import NotebookContainer

from taccuino.engines.images import ImageStore

pytestmark = pytest.mark.integration

# Loaded before JupyterHub's extension and after: names are sorted.
EXTENSION = """
import json, pathlib, sys

def load_jupyter_server_extension(app):
    import sqlalchemy, sqlalchemy.exc, requests, aiohttp
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        one = connection.execute(sqlalchemy.text("select 1")).scalar()
    import jupyterhub.orm, jupyterhub.roles, jupyterhub.utils
    from jupyterhub.handlers.pages import HealthCheckHandler
    from jupyterhub.scopes import orm, roles, sa
    found = {
        "one": one,
        "exceptions": issubclass(IntegrityError, SQLAlchemyError),
        "user": orm.User is jupyterhub.orm.User and roles.create_role is jupyterhub.roles.create_role,
        "sqlalchemy": sa.select is sqlalchemy.select,
        "aiohttp": jupyterhub.utils.aiohttp.ClientSession is aiohttp.ClientSession,
        "handler": hasattr(HealthCheckHandler, "get"),
        "stand_ins": [n for n, m in sys.modules.items() if type(m).__name__ == "_StandIn"],
    }
    pathlib.Path(f"/workarea/{__name__}.json").write_text(json.dumps(found))

def _jupyter_server_extension_points():
    return [{"module": __name__}]
"""
NAMES = ("a_first_extension", "z_last_extension")
ALL_REAL = {
    "one": 1,
    **dict.fromkeys(("exceptions", "user", "sqlalchemy", "aiohttp", "handler"), True),
    "stand_ins": [],
}


def test_other_extensions_get_the_real_modules(store: ImageStore, tmp_path: Path) -> None:
    workarea = tmp_path / "workarea"
    workarea.mkdir()
    for name in NAMES:
        (workarea / f"{name}.py").write_text(EXTENSION)
    settings = {"ServerApp": {"jpserver_extensions": dict.fromkeys(NAMES, True)}}
    (workarea / "jupyter_server_config.json").write_text(json.dumps(settings))
    environment = {"PYTHONPATH": "/workarea", "JUPYTER_CONFIG_DIR": "/workarea"}
    with NotebookContainer(store, workarea, "taccuino-test-others", environment) as server:
        server.wait_until_ready()
        for name in NAMES:
            assert json.loads((workarea / f"{name}.json").read_text()) == ALL_REAL
        # The hub is still asked who calls, and told of activity.
        assert server.get("/api/contents")[0] == 200
        assert server.get("/api/contents", token="")[0] == 403


def test_what_a_start_does_not_load(store: ImageStore, tmp_path: Path) -> None:
    """What makes a start short; each of these is half as long as the whole of it is now."""
    program = (
        "import sys; from taccuino.server import singleuser; singleuser._import(); "
        "print([n for n in ('sqlalchemy', 'alembic', 'aiohttp', 'requests') if n in sys.modules])"
    )
    with NotebookContainer(store, tmp_path, "taccuino-test-imports") as server:
        assert server.shell(f'/opt/taccuino/bin/python -c "{program}"') == "[]\n"
