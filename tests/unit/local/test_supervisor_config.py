from __future__ import annotations

from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs
from supervisor.options import UnhosedConfigParser

from taccuino.errors import ServiceError
from taccuino.local.service import Service
from taccuino.local.supervisor_config import supervisor_config

STATE = Path("/srv/taccuino")


def parsed(service: Service, **environment: str) -> UnhosedConfigParser:
    parser = UnhosedConfigParser()
    parser.read_string(supervisor_config(STATE, [service], environment))
    return parser


def test_a_program_keeps_its_children_and_is_started_by_up_alone() -> None:
    hub = Service(name="hub", command=("python", "-m", "jupyterhub", "a b"))
    section = dict(parsed(hub, TACCUINO_INSTANCE=str(STATE)).items("program:hub"))
    assert section["command"] == "python -m jupyterhub 'a b'"
    assert section["autostart"] == "false"
    assert section["autorestart"] == "true"
    assert section["stopasgroup"] == section["killasgroup"] == "false"
    assert section["directory"] == "/srv/taccuino"
    assert section["stdout_logfile"] == "/srv/taccuino/logs/hub.log"
    assert dict_of_key_value_pairs(section["environment"]) == {
        "TACCUINO_INSTANCE": "/srv/taccuino",
        "TACCUINO_SERVICE": "hub",
    }


@pytest.mark.parametrize("value", ["a,b", "50%", 'say "x" now', "it's", "a=b:c/d.e", ""])
def test_values_survive_the_format(value: str) -> None:
    service = Service(name="edge", command=("haproxy",), environment={"V": value})
    text = supervisor_config(STATE, [service], {})
    line = next(line for line in text.splitlines() if line.startswith("environment="))
    # supervisord expands %(name)s in what it read, as Python's % does.
    read = line.removeprefix("environment=") % {}
    assert dict_of_key_value_pairs(read)["V"] == value


@pytest.mark.parametrize("value", ["a\nb", "a ;b", "a #b", "\"'", '"x"'])
def test_values_that_the_format_can_not_hold_are_refused(value: str) -> None:
    service = Service(name="edge", command=("haproxy",), environment={"V": value})
    with pytest.raises(ServiceError):
        supervisor_config(STATE, [service], {})


def test_stop_group_and_signal() -> None:
    service = Service(name="iam", command=("x",), stop_group=True, stop_signal="INT")
    section = dict(parsed(service).items("program:iam"))
    assert section["stopasgroup"] == section["killasgroup"] == "true"
    assert section["stopsignal"] == "INT"


def test_the_socket_is_for_root_alone() -> None:
    section = dict(parsed(Service(name="x", command=("x",))).items("unix_http_server"))
    assert section == {"file": "/srv/taccuino/supervisor/supervisor.sock", "chmod": "0700"}
