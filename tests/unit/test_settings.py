"""Settings as values: which source counts, where each came from, what is refused."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tokenctl.errors import ConfigError, UsageError
from tokenctl.settings import FORMATS, Database, Flags, check_reason, load
from tokenctl.sources import LIBPQ_VARIABLES, config_paths


def write(folder: Path, text: str) -> dict[str, str]:
    """An environment whose configuration file has the text."""
    file = folder / "tokenctl" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return {"XDG_CONFIG_HOME": str(folder), "XDG_CONFIG_DIRS": str(folder / "none")}


def nothing(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}


def test_the_defaults(tmp_path: Path) -> None:
    got = load(nothing(tmp_path), Flags())
    assert got.database == Database("embedded", "default")
    assert (got.profile, got.protected, got.reasons, got.timeout_s, got.format) == ("default", False, None, None, None)
    assert (got.limits.grant, got.limits.batch_total, got.limits.import_rows) == (5000, 200000, 50000000)
    assert [got.quiet, got.no_input, got.no_color, got.force_color, got.debug] == [False] * 5
    assert set(got.origins.values()) == {"default"}


def test_the_url_comes_first_and_is_shown_as_env(tmp_path: Path) -> None:
    env = write(tmp_path, '[profiles.default]\ndatabase = "service=a"\n') | {
        "TOKENCTL_DATABASE_URL": "service=b",
        "PGHOST": "c",
    }
    got = load(env, Flags())
    assert (got.profile, got.database) == ("env", Database("url", "env:TOKENCTL_DATABASE_URL", "service=b"))
    chosen = load(env, Flags(profile="default"))
    assert (chosen.profile, chosen.database.conninfo) == ("default", "service=a")
    assert chosen.database.kind == "profile"


def test_the_file_that_was_chosen_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = write(tmp_path, "")
    assert load(env, Flags()).chosen_config is None
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("")
    env["TOKENCTL_CONFIG"] = "a.toml"
    assert load(env, Flags()).chosen_config == tmp_path / "a.toml"
    assert load(env, Flags(config="b.toml")).chosen_config == tmp_path / "b.toml"


@pytest.mark.parametrize("variable", LIBPQ_VARIABLES)
def test_libpq_s_variables_come_before_the_embedded_server(tmp_path: Path, variable: str) -> None:
    env = nothing(tmp_path) | {variable: "x"}
    assert load(env, Flags()).database == Database("libpq", f"env:{variable}")
    with_file = write(tmp_path, '[profiles.default]\ndatabase = "service=a"\n') | {variable: "x"}
    assert load(with_file, Flags()).database.kind == "profile"


def test_a_password_stays_out_of_the_representation(tmp_path: Path) -> None:
    got = load(nothing(tmp_path) | {"TOKENCTL_DATABASE_URL": "postgresql://u:S3CRET@h/x"}, Flags())
    assert "S3CRET" not in repr(got)


def test_every_value_knows_where_it_came_from(tmp_path: Path) -> None:
    env = write(tmp_path, 'timeout = 2.5\nprofile = "a"\n[profiles.a]\ndatabase = "service=a"\n')
    file = str(tmp_path / "tokenctl" / "config.toml")
    got = load(env, Flags())
    assert dict(got.origins)["timeout"] == file
    assert (got.timeout_s, got.origins["profile"], got.origins["database"]) == (2.5, file, file)
    over = load(env | {"TOKENCTL_TIMEOUT": "9", "TOKENCTL_FORMAT": "json"}, Flags(timeout_s=3.0))
    assert (over.timeout_s, over.origins["timeout"], over.origins["format"]) == (3.0, "flag", "env:TOKENCTL_FORMAT")


def test_a_command_may_know_other_formats(tmp_path: Path) -> None:
    env, formats = nothing(tmp_path), ("table", "prometheus", "json")
    assert load(env, Flags(format="prometheus", formats=formats)).format == "prometheus"
    assert load(env | {"TOKENCTL_FORMAT": "prometheus"}, Flags(formats=formats)).format == "prometheus"
    with pytest.raises(UsageError, match=r"'tsv' \(--format\) is not a format") as caught:
        load(env, Flags(format="tsv", formats=formats))
    assert caught.value.hint == "one of table, prometheus, json"
    with pytest.raises(UsageError):
        load(env, Flags(format="prometheus"))


def test_a_format_for_every_command_is_passed_over_by_one_that_lacks_it(tmp_path: Path) -> None:
    for form, formats in (("tsv", ("table", "prometheus")), ("csv", FORMATS), ("value", FORMATS)):
        got = load(nothing(tmp_path) | {"TOKENCTL_FORMAT": form}, Flags(formats=formats))
        assert (got.format, got.origins["format"]) == (None, "default")


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    names = ("TOKENCTL_DATABASE_URL", "TOKENCTL_PROFILE", "TOKENCTL_TIMEOUT", "TOKENCTL_FORMAT", "PGHOST", "NO_COLOR")
    assert load(nothing(tmp_path) | dict.fromkeys(names, ""), Flags()).database.kind == "embedded"


@pytest.mark.parametrize("value", ["1", "yes", "true"])
def test_switches_of_the_environment(tmp_path: Path, value: str) -> None:
    env = nothing(tmp_path) | dict.fromkeys(("TOKENCTL_QUIET", "TOKENCTL_NO_INPUT", "TOKENCTL_DEBUG"), value)
    got = load(env, Flags())
    assert got.quiet
    assert got.no_input
    assert got.debug


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF", ""])
def test_switches_can_be_off(tmp_path: Path, value: str) -> None:
    env = nothing(tmp_path) | dict.fromkeys(("TOKENCTL_QUIET", "TOKENCTL_NO_INPUT", "TOKENCTL_DEBUG"), value)
    got = load(env, Flags())
    assert [got.quiet, got.no_input, got.debug] == [False] * 3


def test_a_flag_and_a_variable_fail_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(--format\)"):
        load(nothing(tmp_path), Flags(format="xml"))
    with pytest.raises(ConfigError, match="env:TOKENCTL_FORMAT"):
        load(nothing(tmp_path) | {"TOKENCTL_FORMAT": "xml"}, Flags())
    with pytest.raises(UsageError):
        load(nothing(tmp_path), Flags(request_id="a b"))
    with pytest.raises(ConfigError):
        load(nothing(tmp_path) | {"TOKENCTL_REQUEST_ID": "a b"}, Flags())


def test_the_strongest_file_comes_first() -> None:
    env = {"XDG_CONFIG_HOME": "/a", "XDG_CONFIG_DIRS": "/b:relative:/c", "HOME": "/h"}
    assert [str(path) for path in config_paths(env, None)] == [f"/{n}/tokenctl/config.toml" for n in "abc"]
    assert config_paths({**env, "TOKENCTL_CONFIG": "/x"}, None) == [Path("/x")]
    assert config_paths({**env, "TOKENCTL_CONFIG": "/x"}, "/y") == [Path("/y")]
    without = config_paths({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}, None)
    assert [str(path) for path in without] == ["/h/.config/tokenctl/config.toml", "/etc/xdg/tokenctl/config.toml"]


def test_without_home_the_user_database_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    got = load(nothing(tmp_path), Flags())
    assert got.data_dir == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".local/share/tokenctl"
    assert load(nothing(tmp_path) | {"XDG_DATA_HOME": "/data"}, Flags()).data_dir == Path("/data/tokenctl")


def test_the_claim_is_short_and_printable(tmp_path: Path) -> None:
    claim = load(nothing(tmp_path) | {"TOKENCTL_OPERATOR": "ann\n\x1b" + "x" * 200}, Flags()).claimed_by
    assert claim.startswith("ann??x")
    assert len(claim) == 128


def test_only_systemd_s_variables_name_several_directories(tmp_path: Path) -> None:
    several = {"STATE_DIRECTORY": "/x/s:/x/t", "CACHE_DIRECTORY": "/x/c:/x/d"}
    settings = load(nothing(tmp_path) | several, Flags())
    assert (settings.state_dir, settings.cache_dir) == (Path("/x/s"), Path("/x/c"))
    ours = load(nothing(tmp_path) | several | {"TOKENCTL_CACHE_DIR": "/x/a:b"}, Flags())
    assert (ours.cache_dir, ours.origins["cache_dir"]) == (Path("/x/a:b"), "env:TOKENCTL_CACHE_DIR")


def test_with_a_url_any_protected_profile_counts(tmp_path: Path) -> None:
    text = '[profiles.a]\ndatabase = "x"\nprotected = true\n[profiles.b]\ndatabase = "y"\n'
    env = write(tmp_path, text)
    assert load(env, Flags(profile="a")).protected
    assert not load(env, Flags(profile="b")).protected
    assert load(env | {"TOKENCTL_DATABASE_URL": "y"}, Flags()).protected


def test_reasons(tmp_path: Path) -> None:
    check_reason("anything", load(nothing(tmp_path), Flags()))
    listed = load(write(tmp_path, 'reasons = ["a", "b"]\n'), Flags())
    check_reason("a", listed)
    with pytest.raises(UsageError, match="'c' is not on the configured list"):
        check_reason("c", listed)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('# grant = 1\n[profiles.grant]\ndatabase = "x"\n\n[limits]\n"grant" = -1\nbatch_total = 0 # x\n', [6, 7]),
        ('timeout = 1\nlimits.grant = 0\nlimits . "batch_total" = 0\n', [2, 3]),
        ("timeout = 1\nlimits = { grant = 0, batch_total = 0 }\n", [2, 2]),
        ("[profiles.b]\nprotected = 1\n[profiles.a]\nnope = 1\n", [2, 4]),
        ("timeout = 1\n[nope]\n[limit]\n", [2, 3]),
    ],
)
def test_a_key_is_found_on_its_own_line(tmp_path: Path, text: str, lines: list[int]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), Flags())
    assert [int(line.split(":")[1]) for line in caught.value.detail.splitlines()[1:]] == lines
