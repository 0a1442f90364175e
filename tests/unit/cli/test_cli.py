from __future__ import annotations

import json
from pathlib import Path

import pytest

from taccuino.cli import main


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command; its exit code, output and errors."""
    for name in ("TACCUINO_SETTINGS", "TACCUINO_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TACCUINO_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["taccuino", *arguments])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_status_before_the_first_up(run, tmp_path: Path) -> None:
    code, out, _ = run("status", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["ready"] is False
    assert answer["state_dir"] == str(tmp_path / "state")
    assert run("status")[0] == 0


def test_check_names_every_fault(run, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('prot = 1\nport = "x"\n[hub]\nlog_level = "loud"\n')
    code, _, err = run("check", str(file))
    assert code == 1
    for word in ("prot", "port", "hub.log_level", "remove it", "write a whole number"):
        assert word in err
    assert "Traceback" not in err


def test_a_file_that_is_not_there(run) -> None:
    code, _, err = run("check", "absent.toml")
    assert code == 1
    assert "absent.toml" in err
    assert "No such file" in err


def test_unknown_service_names_those_there_are(run) -> None:
    code, _, err = run("logs", "hubb")
    assert code == 1
    assert "'hubb'" in err
    assert "engine, mount-plane, storage-pages, front-end, hub" in err


def test_logs(run, tmp_path: Path) -> None:
    code, _, err = run("logs", "hub")
    assert code == 1
    assert "taccuino up" in err
    logs = tmp_path / "state/logs"
    logs.mkdir(parents=True)
    (logs / "hub.log").write_text("one\ntwo\nthree\n")
    assert run("logs", "hub", "-n", "2") == (0, "two\nthree\n", "")
    assert run("logs", "hub", "-n", "0") == (0, "", "")


def test_where_several_sites_are_each_has_its_logs_and_images(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACCUINO_SITES", "bari,cnaf")
    logs = tmp_path / "state/sites/bari/logs"
    logs.mkdir(parents=True)
    (logs / "hub.log").write_text("of bari\n")
    assert run("logs", "bari/hub") == (0, "of bari\n", "")
    code, _, err = run("logs", "hub")
    assert code == 1
    assert "edge, supervisor, bari/" in err
    code, _, err = run("image", "withdraw", "own")
    assert code == 1
    assert "several sites" in err
    assert "state/sites/<name>" in err


def test_up_and_down_are_for_root(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for command in ("up", "down"):
        code, _, err = run(command)
        assert code == 1
        assert "root" in err


def test_down_before_the_first_up(run) -> None:
    code, out, _ = run("down", "--purge")
    assert code == 0
    assert "nothing runs" in out


def test_purge_keeps_its_hands_off_what_is_not_ours(run, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "thesis.tex").touch()
    code, _, err = run("down", "--purge")
    assert code == 1
    assert "settings.json" in err
    assert [path.name for path in state.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("arguments", [("nope",), ("logs",), ("up", "--what"), ("status", "x")])
def test_wrong_usage_is_no_traceback(run, arguments) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage" in err
    assert "Traceback" not in err


def test_version(run) -> None:
    assert run("--version")[1].startswith("taccuino ")
