"""Settings come from a file, from variables and from options, in this order of precedence."""

from pathlib import Path

import click
import pytest

from smtpcore_adapters.cli._sources import Settings, Source, origin, read_settings

FILE = """\
hostname = "mx.example.org"
accept = "example.org"
timeout = 5

[deliver]
url = "print:"

[[listener]]
port = 25
[[listener]]
  port = 465
tls = "implicit"

[listener.tls_names]
"a.example" = ["a.pem", "a.key"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "smtpcore.toml"
    path.write_text(FILE)
    return path


def read(file: Path | None = None, variables: dict[str, str] | None = None, **options: object) -> Settings:
    return read_settings({"config": str(file) if file else None, **options}, variables or {})


def test_file_sets_the_server_and_each_listener(file: Path) -> None:
    server = read(file)
    assert (server["hostname"], server["accept"], server["deliver"]) == (
        "mx.example.org",
        ["example.org"],
        [{"url": "print:"}],
    )
    assert [each["port"] for each in server.listeners] == [25, 465]
    assert [each["tls"] for each in server.listeners] == [None, "implicit"]
    assert server.listeners[1]["tls_names"] == {"a.example": ["a.pem", "a.key"]}
    assert server.listeners[0]["hostname"] == "mx.example.org"


def test_variables_take_precedence_over_the_file_and_options_over_both(file: Path) -> None:
    variables = {"SMTPCORE_TIMEOUT": "6", "SMTPCORE_HOSTNAME": "variable.example"}
    server = read(file, variables, hostname="option.example", accept=(), port=None)
    assert (server["timeout"], server["hostname"], server["accept"]) == (6.0, "option.example", ["example.org"])
    assert [server.values[name].source for name in ("timeout", "hostname", "accept", "port")] == [
        Source.VARIABLE,
        Source.OPTION,
        Source.FILE,
        Source.DEFAULT,
    ]


def test_option_takes_precedence_over_the_table_of_a_listener(file: Path) -> None:
    assert [each["tls"] for each in read(file, tls="none").listeners] == ["none", "none"]


def test_origin_of_a_value_is_shown(file: Path) -> None:
    server = read(file, {"SMTPCORE_WORKERS": "2"}, lmtp=True)
    names = ("timeout", "workers", "lmtp", "port")
    assert [origin(name, server.values[name]) for name in names] == [
        f"{file}, line 3",
        "SMTPCORE_WORKERS",
        "--lmtp",
        "default",
    ]


def test_file_in_the_working_directory_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert read()["hostname"] == "mx.example.org"
    (file.parent / "other.toml").write_text("timeout = 7")
    assert read(None, {"SMTPCORE_CONFIG": "other.toml"})["timeout"] == 7.0


def test_without_a_table_the_server_is_the_only_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (listener,) = read(port="0").listeners
    assert listener["port"] == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = ", "Invalid value (at end of document)"),
        ("\nprot = 25", "line 2: 'prot' is not a setting; the nearest is 'port'"),
        ("implicit_tls = true", "line 1: 'implicit_tls' is not a setting; the nearest is 'tls'"),
        ("max_message_size = 5", "line 1: 'max_message_size' is not a setting; the nearest is 'max_size'"),
        ("Max-Size = 5", "line 1: 'Max-Size' is not a setting; the nearest is 'max_size'"),
        ("port = 'x'", "line 1: port: 'x' is not a whole number from 0 to 65535"),
        ("[[listener]]\nport = 1\n\n[[listener]]\n# x\nport = -1", "line 6: port: -1 is not a whole number"),
        ("[[listener]]\nworkers = 2", "line 2: 'workers' is not a setting of [[listener]]; set it above the first"),
        (
            "[[listener]]\ntls_crt = 'x'",
            "line 2: 'tls_crt' is not a setting of [[listener]]; the nearest is 'tls_cert'",
        ),
        ("[[listeners]]\nport = 1", "line 1: 'listeners' is not a setting; the nearest is 'listener'"),
        ("[listener]\nport = 1", "line 1: write [[listener]] above the settings of each listener"),
        ("port = 1\n[[listener]]\nport = 2", "line 1: port has no effect with [[listener]]"),
        ("auth = [1]", "line 1: auth: the value is not a list of texts"),
        ("port = " + "1" * 5000, ": Exceeds the limit (4300 digits)"),
        ("accept = " + "[" * 5000, ": the values are nested too deeply"),
    ],
)
def test_error_in_the_file_names_the_line(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(click.UsageError) as caught:
        read(tmp_path / "x.toml")
    assert caught.value.message.startswith(str(tmp_path / "x.toml"))
    assert error in caught.value.message


def test_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("port = 26", encoding="utf-8-sig")
    assert read(tmp_path / "x.toml")["port"] == 26


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"cannot read .*missing\.toml: No such file"):
        read(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe4")
    with pytest.raises(click.UsageError, match=r"latin\.toml, line \d+: this line is not UTF-8"):
        read(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("variables", "options", "error"),
    [
        ({"SMTPCORE_PORT": "x"}, {}, "SMTPCORE_PORT: 'x' is not a whole number"),
        (
            {"SMTPCORE_TLS_NAMES": "{}"},
            {},
            "SMTPCORE_TLS_NAMES: a variable cannot hold a table: set tls_names in the file",
        ),
        ({"SMTPCORE_LISTENER": "25"}, {}, "SMTPCORE_LISTENER: a variable cannot hold a table: set [[listener]] in"),
        ({}, {"config": ""}, "--config: the value is empty: leave it out, or give a file"),
        ({"SMTPCORE_PROT": "2"}, {}, "SMTPCORE_PROT is not a variable of smtpcore serve: the nearest is SMTPCORE_PORT"),
        (
            {"SMTPCORE_WORKER": "2"},
            {},
            "SMTPCORE_WORKER is not a variable of smtpcore serve: the nearest is SMTPCORE_WORKERS",
        ),
        ({}, {"port": "x"}, "--port: 'x' is not a whole number"),
    ],
)
def test_error_names_the_variable_or_the_option(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: dict[str, object],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError, match=error.replace("[", r"\[")):
        read(None, variables, **options)


def test_other_variables_of_the_project_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("SMTPCORE_PASSWORD", "SMTPCORE_SERVERS", "SMTPCORE_CLIENTS", "OTHER_PORT")
    assert read(None, dict.fromkeys(names, "x"))["port"] == 2525


@pytest.mark.parametrize(
    ("variables", "options", "error"),
    [
        ({}, {}, "--tls needs --tls-cert {x}"),
        ({"SMTPCORE_TLS": "starttls"}, {}, "SMTPCORE_TLS needs SMTPCORE_TLS_CERT {x}"),
        ({}, {"tls": "starttls"}, "--tls needs --tls-cert {x}"),
    ],
)
def test_error_writes_its_settings_like_the_first_setting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: dict[str, object],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    server = read(None, variables, **options)
    assert server.error("{tls} needs {tls_cert} {more}", more="{x}").message == error


def test_error_of_a_listener_names_its_line(file: Path) -> None:
    first, second = read(file).listeners
    assert first.error("{unix}: wrong").message == f"{file}, line 8: unix: wrong"
    assert second.error("{tls} needs {tls_cert}").message == f"{file}, line 12: tls needs tls_cert"
