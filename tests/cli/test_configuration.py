"""Where settings come from, which one counts, and how mistakes are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.running import NOWHERE, Cli, CommandLine, run, terminal
from tokenctl import configfile

GRANT = ("grant-bonus", "u1", "--new-user", "--amount", "500", "--reason", "goodwill")


@pytest.fixture
def config(home: Path) -> Path:
    """Where the user's configuration file is; empty yet."""
    file = home / "config" / "tokenctl" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("")
    return file


def profile_of(cli: CommandLine, *argv: str) -> str:
    return str(cli("db", "status", "--json", *argv).json["data"]["profile"])


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(cli: Cli, config: Path) -> None:
    url = cli.db.conninfo().replace("\\", "\\\\").replace('"', '\\"')
    config.write_text(
        'profile = "b"\n' + "".join(f'[profiles.{name}]\ndatabase = "{url}"\n' for name in ("a", "b", "c", "default"))
    )
    assert profile_of(cli) == "env"
    assert profile_of(cli, "--profile", "a") == "a"
    cli.patch.delenv("TOKENCTL_DATABASE_URL")
    assert profile_of(cli) == "b"
    cli.patch.setenv("TOKENCTL_PROFILE", "c")
    assert profile_of(cli) == "c"
    assert profile_of(cli, "--profile", "a") == "a"
    cli.patch.setenv("TOKENCTL_PROFILE", "")
    config.write_text(config.read_text().replace('profile = "b"', ""))
    assert profile_of(cli) == "default"


def test_the_user_s_file_beats_the_system_s(cli: Cli, config: Path, home: Path) -> None:
    system = home / "etc" / "tokenctl" / "config.toml"
    system.parent.mkdir(parents=True)
    system.write_text("[limits]\ngrant = 10\nbatch_total = 7\n")
    cli.patch.setenv("XDG_CONFIG_DIRS", str(home / "etc"))
    assert "above the limit of 10 " in cli(*GRANT, "--yes").err
    config.write_text("[limits]\ngrant = 20\n")
    assert "above the limit of 20 " in cli(*GRANT, "--yes").err
    other = home / "other.toml"
    other.write_text("[limits]\ngrant = 30\n")
    cli.patch.setenv("TOKENCTL_CONFIG", str(other))
    assert "above the limit of 30 " in cli(*GRANT, "--yes").err
    flag = home / "flag.toml"
    flag.write_text("[limits]\ngrant = 500\n")
    assert cli(*GRANT, "--yes", "--config", str(flag)).code == 0


def test_a_file_in_the_current_folder_counts_for_nothing(cli: Cli, home: Path) -> None:
    for name in ("config.toml", ".env", "tokenctl.toml"):
        (home / name).write_text("nonsense\nTOKENCTL_FORMAT=json\n")
    assert cli(*GRANT, "--yes", "--format", "value").out == b"u1:1\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("timout = 3\n", 1, "unknown key 'timout'; did you mean 'timeout'?"),
        ("# x\n\n[limits]\ngrants = 5\n", 4, "unknown key 'limits.grants'; did you mean 'limits.grant'?"),
        ("[limits]\ngrant = 0\n", 2, "limits.grant: 0 is not a whole number above zero"),
        (f"[limits]\ngrant = {10**15}\n", 2, f"{10**15} is not a whole number above zero, of 15 digits at most"),
        ("timeout = 1000000\n", 1, "1000000 is not a number of seconds above zero and below a million"),
        ("[limits]\ngrant = 5.0\n", 2, "limits.grant"),
        ('[limits]\ngrant = "5"\n', 2, "limits.grant"),
        ("[limits]\ngrant = true\n", 2, "limits.grant"),
        ("timeout = -1\n", 1, "timeout"),
        ("timeout = true\n", 1, "timeout"),
        ("timeout = inf\n", 1, "timeout"),
        ('reasons = ["Good will"]\n', 1, "reasons"),
        ('reasons = "goodwill"\n', 1, "reasons"),
        ("[profiles.a]\ndatabase = 5\n", 2, "profiles.a.database"),
        ('[profiles.a]\nprotected = "yes"\n', 2, "profiles.a.protected"),
        ('[profiles.a]\npassword = "x"\n', 2, "unknown key 'profiles.a.password'"),
        ("limits = 5\n", 1, "limits"),
        ("a = 1\na = 2\n", 2, "line 2"),
        ("[limits\n", 1, "line 1"),
    ],
)
def test_a_mistake_is_told_with_file_and_line(
    offline: CommandLine, config: Path, text: str, line: int, words: str
) -> None:
    config.write_text(text)
    got = offline("balance", "u1")
    assert (got.code, got.out) == (78, b"")
    assert words in got.err
    assert f"{config}:{line}: " in got.err or f"line {line}," in got.err


def test_several_mistakes_are_told_at_once(offline: CommandLine, config: Path) -> None:
    config.write_text("timout = 3\n[limits]\ngrant = 0\n[profiles.a]\nprotected = 1\n")
    got = offline("balance", "u1")
    assert got.code == 78
    assert [line.split(": ")[0] for line in got.err.splitlines()[:3]] == [f"{config}:{n}" for n in (1, 3, 5)]
    assert "tokenctl: 3 mistakes in the configuration" in got.err


def test_a_section_without_keys_is_no_mistake(cli: Cli, config: Path) -> None:
    config.write_text("[limits]\n# grant = 5\n[profiles.a]\n[profiles]\n")
    assert cli(*GRANT, "--yes").code == 0
    config.write_text("[limit]\n")
    assert cli(*GRANT, "--yes").code == 78


@pytest.mark.parametrize("name", ["missing.toml", "/dev/null/x", "."])
def test_a_named_file_must_be_there(offline: CommandLine, name: str) -> None:
    for argv in (("--config", name), ()):
        got = offline("balance", "u1", *argv)
        assert got.code == 78
        assert "configuration file" in got.err
        offline.patch.setenv("TOKENCTL_CONFIG", name)


def test_a_file_that_is_not_utf_8_or_not_readable(offline: CommandLine, config: Path) -> None:
    config.write_bytes(b'profile = "caf\xe9"\n')
    assert offline("balance", "u1").code == 78
    config.unlink()
    config.mkdir()
    assert offline("balance", "u1").code == 78


@pytest.mark.parametrize(
    ("variable", "value"),
    [("TOKENCTL_TIMEOUT", "soon"), ("TOKENCTL_TIMEOUT", "0"), ("TOKENCTL_TIMEOUT", "-1"), ("TOKENCTL_FORMAT", "xml"),
     ("TOKENCTL_REQUEST_ID", "two words"), ("TOKENCTL_PROFILE", "nowhere")],
)  # fmt: skip
def test_a_wrong_variable_is_78_and_named(offline: CommandLine, variable: str, value: str) -> None:
    offline.patch.delenv("TOKENCTL_DATABASE_URL")
    offline.patch.setenv(variable, value)
    got = offline("balance", "u1")
    assert got.code == 78
    assert variable in got.err


def test_an_unknown_profile_names_the_known_ones(offline: CommandLine, config: Path) -> None:
    config.write_text(f'[profiles.prod]\ndatabase = "{NOWHERE}"\n[profiles.test]\ndatabase = "{NOWHERE}"\n')
    got = offline("balance", "u1", "--profile", "prd")
    assert got.code == 78
    assert "known profiles: prod, test" in got.err
    assert offline("balance", "u1", "--profile", "prod").code == 69


def test_reasons_are_held_to_the_list(cli: Cli, config: Path) -> None:
    config.write_text('reasons = ["goodwill", "mistake"]\n')
    assert cli(*GRANT, "--yes").code == 0
    for argv in (
        ("grant-bonus", "u1", "--amount", "5", "--reason", "gift", "--yes"),
        ("reverse", "u1:1", "--reason", "gift", "--yes"),
    ):
        got = cli(*argv)
        assert got.code == 2
        assert "reason 'gift' is not on the configured list" in got.err
        assert "goodwill, mistake" in got.err
    assert cli("reverse", "u1:1", "--reason", "mistake", "--yes").code == 0


def test_protected_is_shown_and_the_url_is_taken_for_the_strictest(cli: Cli, config: Path) -> None:
    assert "PROTECTED" not in cli(*GRANT, "-n").err
    url = cli.db.conninfo()
    config.write_text(
        f'[profiles.a]\ndatabase = "{url}"\nprotected = false\n[profiles.b]\ndatabase = "{url}"\nprotected = true\n'
    )
    assert "PROTECTED" in cli(*GRANT, "-n").err
    assert "PROTECTED" not in cli(*GRANT, "-n", "--profile", "a").err
    assert "PROTECTED" in cli(*GRANT, "-n", "--profile", "b").err


def test_the_request_id_and_the_operator_come_from_the_environment_too(cli: Cli) -> None:
    cli.patch.setenv("TOKENCTL_REQUEST_ID", "cron/7")
    cli.patch.setenv("TOKENCTL_OPERATOR", "ann\x1b[31m\u202e")
    assert cli(*GRANT, "--yes", "--json").json["meta"]["request_id"] == "cron/7"
    [(request_id, claimed)] = cli.db.rows("SELECT request_id, claimed_by FROM tokenctl.token_transactions")
    assert request_id == "cron/7"
    assert claimed.startswith("ann?[31m?@")


def test_the_timeout_comes_from_flag_environment_or_file(cli: Cli, config: Path) -> None:
    cli.grant("u1", 1)
    holder = cli.db.connect("postgres")
    with holder.transaction():
        holder.execute("SELECT FROM tokenctl.token_accounts FOR UPDATE")
        assert cli(*GRANT, "--yes", "--timeout", "0.3").code == 75
        config.write_text("timeout = 0.3\n")
        assert cli(*GRANT, "--yes").code == 75
        config.write_text("timeout = 3600\n")
        cli.patch.setenv("TOKENCTL_TIMEOUT", "0.3")
        assert cli(*GRANT, "--yes").code == 75


def test_cron_s_empty_environment_is_enough(cli: Cli) -> None:
    cli.grant("u1", 1500)
    bare = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    got = run("balance", "u1", "--format", "value", env={**bare, "TOKENCTL_DATABASE_URL": cli.db.conninfo()})
    assert (got.code, got.out, got.err) == (0, b"1500\n", "")


def test_each_setting_is_shown_with_who_gave_it(offline: CommandLine, config: Path, home: Path) -> None:
    system = home / "etc" / "tokenctl" / "config.toml"
    system.parent.mkdir(parents=True)
    system.write_text("timeout = 7\n[limits]\ngrant = 70\nbatch_total = 700\n")
    config.write_text("[limits]\ngrant = 50\n")
    shown = offline("config", "show", "--json").json["data"]
    assert shown["limits.grant"] == {"value": 50, "origin": str(config)}
    assert shown["limits.batch_total"] == {"value": 700, "origin": str(system)}
    assert shown["limits.import_rows"] == {"value": 50_000_000, "origin": "default"}
    assert shown["timeout"] == {"value": 7.0, "origin": str(system)}
    assert shown["profile"] == {"value": "env", "origin": "env:TOKENCTL_DATABASE_URL"}
    offline.patch.setenv("TOKENCTL_TIMEOUT", "9")
    assert offline("config", "show", "--json").json["data"]["timeout"] == {
        "value": 9.0,
        "origin": "env:TOKENCTL_TIMEOUT",
    }
    flag = offline("config", "show", "--json", "--timeout", "3").json["data"]
    assert (flag["timeout"], flag["format"]) == ({"value": 3.0, "origin": "flag"}, {"value": "json", "origin": "flag"})
    assert ["limits.grant", "50", str(config)] in offline("config", "show").lines
    offline.patch.setenv("COLUMNS", "80")
    heading, *lines = offline("config", "show", "--format", "table").text.splitlines()
    assert heading.split() == ["SETTING", "VALUE", "ORIGIN"]
    assert max(map(len, lines)) <= 80
    offline.patch.setenv("COLUMNS", "")


def test_every_key_of_the_file_is_shown(offline: CommandLine, config: Path) -> None:
    config.write_text(re.sub("(?m)^#(?=[\\w\\[])", "", configfile.example()))
    shown = offline("config", "show", "--json", "--profile", "prod").json["data"]
    keys = {key.replace("*", "grant-bonus") for key in configfile.KEYS if not key.startswith("profiles.")}
    assert keys <= set(shown)
    assert {shown[key]["origin"] for key in keys if key != "profile"} == {str(config)}
    assert (shown["database"]["value"], shown["protected"]["value"]) == ("service=tokens-prod", True)


def test_no_secret_is_shown(offline: CommandLine) -> None:
    secrets = {
        "TOKENCTL_DATABASE_URL": "postgresql://u:CANARY-1@127.0.0.1/x?sslpassword=CANARY-2",
        "PGPASSWORD": "CANARY-3",
        "GEMINI_API_KEY": "CANARY-4",
    }
    for name, value in secrets.items():
        offline.patch.setenv(name, value)
    for form in ("json", "table", "tsv"):
        got = offline("config", "show", "--format", form)
        assert got.code == 0
        assert "CANARY" not in got.text + got.err
        assert "127.0.0.1" in got.text
    assert offline("config", "show", "--json").json["data"]["gemini.key"] == {
        "value": "set",
        "origin": "env:GEMINI_API_KEY",
    }


def test_the_paths_are_those_that_are_read(offline: CommandLine, config: Path, home: Path) -> None:
    config.write_text("")
    system = home / "etc" / "tokenctl" / "config.toml"
    assert offline("config", "path").lines == [[str(config), "read"], [str(system), "not there"]]
    assert offline("config", "path", "--format", "value").text == f"{config}\n"
    offline.patch.setenv("TOKENCTL_CONFIG", str(config))
    assert offline("config", "path").lines == [[str(config), "read"]]


def test_check_tells_mistakes_with_their_line(offline: CommandLine, home: Path) -> None:
    assert "there is no file" in offline("config", "check").err
    file = home / "c.toml"
    file.write_text("timout = 3\n")
    got = offline("config", "check", "--config", "c.toml")
    assert (got.code, got.err.startswith("tokenctl: c.toml:1: unknown key 'timout'")) == (78, True)
    file.write_text("timeout = 3\n")
    got = offline("config", "check", "--config", "c.toml")
    assert (got.code, got.lines) == (0, [["c.toml", "read"]])


def test_init_writes_an_example_and_never_over_a_file(offline: CommandLine, config: Path) -> None:
    config.unlink()
    config.parent.rmdir()
    got = offline("config", "init")
    assert (got.code, got.lines) == (0, [[str(config), "read"]])
    assert config.read_text() == configfile.example() == offline("config", "init", "-").text
    assert (config.stat().st_mode & 0o777, config.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert offline("config", "check").code == 0
    config.write_text("timeout = 3\n")
    got = offline("config", "init")
    assert (got.code, config.read_text()) == (73, "timeout = 3\n")
    assert offline("config", "init", "other.toml").code == 0
    assert offline("config", "init", str(config / "below.toml")).code == 73


def test_the_example_shows_the_defaults(offline: CommandLine, config: Path) -> None:
    before = offline("config", "show", "--json").json["data"]
    config.write_text(re.sub(r"(?m)^#(?=(?!database|protected|profile|reasons)[\w\[])", "", configfile.example()))
    after = offline("config", "show", "--json").json["data"]
    changed = {key for key in after if after[key]["value"] != before.get(key, {"value": None})["value"]}
    assert changed >= {"timeout", "log.file"}
    assert {before.get(key, {"value": None})["value"] for key in changed} == {None}  # those without a default


def test_a_name_that_is_nearly_a_variable_s_is_refused(offline: CommandLine) -> None:
    offline.patch.setenv("TOKENCTL_DATABSE_URL", "postgresql://h/x")
    got = offline("balance", "u1")
    assert got.code == 78
    assert "there is no variable TOKENCTL_DATABSE_URL; did you mean TOKENCTL_DATABASE_URL?" in got.err
    offline.patch.delenv("TOKENCTL_DATABSE_URL")
    offline.patch.setenv("TOKENCTL_OF_SOMEBODY_ELSE", "x")
    assert offline("balance", "u1").code == 69


def test_a_protected_profile_s_schema_wants_its_name(cli: Cli, config: Path) -> None:
    cli.login("postgres")
    config.write_text('[profiles.a]\ndatabase = "service=none"\nprotected = true\n')
    connection = cli.db.connect("postgres")
    spoil = "UPDATE tokenctl.schema_functions SET checksum = 'older'"
    pending = "SELECT count(*) FROM tokenctl.schema_functions WHERE checksum = 'older'"
    connection.execute(spoil)
    got = cli("db", "migrate")
    assert (got.code, "add --confirm env" in got.err) == (2, True)
    assert cli("db", "migrate", "--confirm", "prod").code == 2
    assert cli.db.rows(pending) != [(0,)]
    with terminal("db", "migrate") as asked:
        seen = asked.wait_for("type the profile's name (env): ")
        assert "\x1b[1;31m▸ env" in seen
        asked.type("dev\n")
        assert asked.end().code == 2
    assert cli.db.rows(pending) != [(0,)]
    with terminal("db", "migrate") as asked:
        asked.wait_for("(env): ")
        asked.type("env\n")
        assert asked.end().code == 0
    assert cli.db.rows(pending) == [(0,)]
    connection.execute(spoil)
    assert cli("db", "migrate", "--dry-run").code == 0
    assert cli("db", "migrate", "--confirm", "env").code == 0
    assert cli.db.rows(pending) == [(0,)]
    config.unlink()
    assert cli("db", "migrate", "--confirm", "prod").code == 2
    assert cli("db", "migrate").code == 0
