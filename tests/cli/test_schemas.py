"""What is published of outputs is true: every command's JSON fits the schema that it names, and adds nothing to it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it brings no types

from tests import gemini_server as fake
from tests.cli.running import NOWHERE, Cli, CommandLine, Ran
from tests.gemini_server import serving
from tests.integration.test_generations import ID, claim, opened
from tests.pg import post
from tests.pictures import REAL
from tokenctl.cli import db_views, schema_views
from tokenctl.cli.schema_views import GRANT_ROW, PROBLEM, published
from tokenctl.output.schemas import Schema, json_schema
from tokenctl.output.views import json_ready

ROOT = Path(__file__).parents[2]
PUBLISHED = published()
#: Printed where a test here cannot look, or by no command: metrics know no JSON Lines.
ELSEWHERE = {PROBLEM, GRANT_ROW, "tokenctl.db_server.v1", "tokenctl.metrics_row.v1", "tokenctl.metrics_summary.v1"}


def strict(schema: Any) -> Any:
    """The schema with every key that it does not name forbidden: the published one only lets a later version grow."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


STRICT = {name: Draft202012Validator(strict(schema)) for name, schema in PUBLISHED.items()}


def names(ran: Ran) -> set[str]:
    """The schemas that the output names, after each of its documents was held to its own."""
    assert ran.out, ran.err
    seen = set()
    for line in ran.text.splitlines():
        document = json.loads(line)
        STRICT[document["schema"]].validate(document)
        seen.add(document["schema"])
    return seen


class Printed:
    """Runs commands, as JSON and as JSON Lines, and keeps the names of what they print."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self.seen: set[str] = set()

    def __call__(self, line: str, *, code: int = 0, stdin: bytes = b"", forms: tuple[str, ...] = ("json",)) -> None:
        for form in forms:
            ran = self._cli(*line.split(), "--format", form, stdin=stdin)
            assert ran.code == code, (line, form, ran)
            self.seen |= names(ran)


BOTH = ("json", "jsonl")
LOOKS = (
    "keys list", "cache stats", "cache clear", "db status", "db url", "schema", "config show", "config path",
    "completion bash", "doctor",
)  # fmt: skip


@pytest.fixture
def printed(cli: Cli, home: Path) -> Iterator[Printed]:
    """On a ledger with a hold, beside a Gemini of the test's own that takes one of two keys."""
    support = cli.db.connect("support1")
    post(support, "u1", 100, key="opening")
    opened(support)
    claim(support)
    keys = home / "keys.toml"
    secrets = {n: f"AIzaSy-canary-of-some-{n}" for n in ("k1", "k2")}
    keys.write_text("".join(f'[[key]]\nid = "{n}"\nproject = "p"\nsecret = "{secrets[n]}"\n' for n in secrets))
    keys.chmod(0o600)
    (home / "a.png").write_bytes(REAL["png"])
    with serving() as gemini:
        gemini.by_key = {secrets["k1"]: fake.model(), secrets["k2"]: fake.rejected()}
        config = home / "config" / "tokenctl" / "config.toml"
        config.parent.mkdir(parents=True)
        prices = '[prices]\nversion = "v1"\n1K = 4\n'
        config.write_text(f'[gemini]\nkeys_file = "{keys}"\nbase_url = "{gemini.url}"\n{prices}')
        yield Printed(cli)


def test_the_past_and_what_an_operator_did_fit_theirs(printed: Printed, cli: Cli) -> None:
    cli.login("support2")
    cli.grant("u9", 5)
    for command in ("balance", "history", "explain"):
        printed(f"{command} u9 --as-of 2020-01-01")
    cli.login("postgres")
    printed("reverse --operator support2 --since 2020-01-01 --reason mistake --dry-run")
    printed("reverse --operator support2 --since 2020-01-01 --reason mistake --yes")


def test_every_output_fits_the_schema_that_it_names(printed: Printed, cli: Cli, home: Path) -> None:
    cli.login("postgres")
    (home / "good.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5,test,k1\nu2,5,test,k2\n")
    (home / "bad.csv").write_text("user_id,amount,reason,idempotency_key\nu1,5.0,test,k3\nu2,5,test,k4\n")
    printed("batch-import good.csv --dry-run", forms=BOTH)
    printed("batch-import bad.csv --partial --dry-run", code=65, forms=BOTH)
    printed("batch-import bad.csv --partial --yes", code=65)
    printed("batch-import good.csv --yes", forms=BOTH)  # once, then again
    batch = cli("batches", "--format", "json").json["data"][0]["batch_id"]
    printed("grant-bonus u1 --amount 5 --reason goodwill --dry-run", forms=BOTH)
    printed("grant-bonus u1 --amount 5 --reason goodwill --note hm --ticket 7 --yes", forms=BOTH)
    printed("balance u1", forms=BOTH)
    printed("balance u1 --fresh")
    printed("balance u1 u2", forms=BOTH)
    printed("balance -", stdin=b"u1\n")
    printed("reverse u1:3 --reason mistake --dry-run")
    printed("reverse u1:3 --reason mistake --yes")
    printed("show u1:1", forms=BOTH)
    printed("show u1:3", forms=BOTH)
    printed("explain u1", forms=BOTH)
    printed("statement u1 --month 2026-11")
    printed("history u1 --limit 2", forms=BOTH)
    printed("history u1 --since 2999-01-01", forms=BOTH)
    printed("export --user u1 --since 2026-11-01", forms=BOTH)
    printed("verify", forms=BOTH)
    printed(f"reverse --batch {batch} --reason mistake --dry-run")
    printed(f"reverse --batch {batch} --reason mistake --yes", forms=("json",))
    printed("batches list", forms=BOTH)
    printed(f"batches show {batch}", forms=BOTH)
    printed("generate u1 --prompt cat --quality 1K --image a.png --image a.png --image a.png --dry-run", forms=BOTH)
    printed("holds list", forms=BOTH)
    printed("holds reconcile --dry-run", forms=BOTH)
    printed(f"holds release u1 {ID} --reason stuck --yes")
    printed("health --deep", code=1, forms=BOTH)
    printed("keys test", code=1, forms=BOTH)
    for line in LOOKS:
        printed(line, forms=BOTH)
    cli.db.connect("postgres").execute("UPDATE tokenctl.schema_functions SET checksum = 'older'")
    printed("db migrate --dry-run", forms=BOTH)
    printed("db migrate")
    printed("metrics")
    printed("verify --seal --deep", forms=BOTH)
    cli.patch.setenv("TOKENCTL_DATABASE_URL", NOWHERE)
    for form in BOTH:
        for _ in range(3):
            cli("balance", "u1", "--timeout", "5")
        printed("breaker list", forms=(form,))
        printed("breaker reset --all", forms=(form,))
    assert set(PUBLISHED) - printed.seen == ELSEWHERE


def test_an_error_fits_its_schema(cli: Cli) -> None:
    validator = Draft202012Validator(PUBLISHED[PROBLEM])
    for line, code in (("balance nobody", 67), ("balance", 2), ("show nobody:1", 67), ("reverse u1:1 --reason x", 2)):
        ran = cli(*line.split(), "--json")
        assert ran.code == code, ran.err
        validator.validate(ran.problem)


def test_the_embedded_server_s_state_fits_its_schema() -> None:
    shape = json_schema(db_views.ServerData)
    for running, pid in ((True, 7), (False, None)):
        view = db_views.server({"running": running, "was_running": None, "pid": pid, "data": "/x"})
        Draft202012Validator(strict(shape)).validate(json_ready(view.data))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_schema_is_one_and_is_printed_by_both_of_its_names(offline: CommandLine, name: str) -> None:
    Draft202012Validator.check_schema(PUBLISHED[name])
    ran = offline("schema", schema_views.short(name))
    assert (ran.code, ran.json, ran.err) == (0, PUBLISHED[name], "")
    assert ran.json["$id"] == f"urn:tokenctl:schema:{name}"
    assert offline("schema", name, "--json") == ran


def test_an_unknown_name_gets_the_nearest_and_no_other_format_is_pretended(offline: CommandLine) -> None:
    assert "did you mean balance?" in offline("schema", "balanse").err
    assert offline("schema", "balanse").code == 2
    assert offline("schema", "balance", "--format", "tsv").code == 2
    assert offline("schema").lines[0] == ["balance", "What a user has"]


def test_the_list_says_of_each_schema_what_it_is_of(offline: CommandLine) -> None:
    said = dict(offline("schema").lines)
    assert [name for name, what in said.items() if not what or what.startswith(("The run", "The same"))] == []
    assert {what for name, what in said.items() if name.endswith("_summary")} == {
        "The last line of a list",
        "An import's last line",
    }
    assert said["config"] == "Every setting with its origin"
    assert said["import"] == "An import"
    assert said["health"] == "The state of all checks"


def test_a_schema_is_declared_where_the_list_looks_and_nowhere_else() -> None:
    """At the top of a module of views: one made inside a function would be printed and not published."""
    found: dict[str, int] = {}
    for file in sorted((ROOT / "tokenctl").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        made = sum(isinstance(node, ast.Call) and _called(node) == "Schema" for node in ast.walk(tree))
        at_top = sum(
            isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _called(node.value) == "Schema"
            for node in tree.body
        )
        assert made == at_top, file
        if made:
            found[file.stem] = made
    assert all(stem.endswith("views") for stem in found), found
    assert sum(found.values()) == len(schema_views.declared())
    assert len({schema.name for schema in schema_views.declared()}) == sum(found.values())


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_a_difference_would_be_found(cli: Cli) -> None:
    """The strictness of these tests: a key more, a key less and another type are each refused."""
    cli.grant("u1")
    good = cli("balance", "u1", "--json").json
    validator = STRICT["tokenctl.balance.v1"]
    validator.validate(good)
    assert not validator.is_valid({**good, "more": 1})
    changes: list[dict[str, Any]] = [
        {"more": 1},
        {"balance": "500"},
        {"balance": 2**53},
        {"held": None},
        {"last_change": {}},
    ]
    for change in changes:
        assert not validator.is_valid({**good, "data": {**good["data"], **change}})
    del good["data"]["held"]
    assert not validator.is_valid(good)


def test_a_type_without_a_schema_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON Schema for"):
        json_schema(set)
    assert Schema("tokenctl.x.v1", dict[str, int | None]).shape == dict[str, int | None]
