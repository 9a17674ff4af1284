"""The schemas keep their conventions, the generated code is theirs, and the evolution rule holds."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas import contract, evolution, generate

ROOT = Path(__file__).resolve().parents[2]
HEADER = [
    ("id", "string"),
    ("correlation_id", "string"),
    ("causation_id", "string"),
    ("created_ns", "long"),
    ("producer", "string"),
]
# What a number can be counted or measured in. A comment that names none of these does not say what the number means.
UNITS = re.compile(
    r"\bns\b|microseconds|lamports|base units|basis points|\b0\.\.1|0 \(calm\) \.\. 1|bytes|1e6|millionths|"
    r"\bslot\b|epoch|sequence|number|counts|per second|in the unit|order of|"
    r"messages|errors|handlers|calls|pools|cycles|opportunities|executions|deliveries|laps|pool states"
)


@pytest.fixture(scope="module")
def compiled(flatc: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return generate.compile_schemas(flatc, generate.HERE, tmp_path_factory.mktemp("generated"))


def test_generated_code_is_what_the_schemas_compile_to(flatc: str, tmp_path: Path) -> None:
    generate.generate(tmp_path, flatc=flatc)
    committed = {path.name: path.read_bytes() for path in (ROOT / "generated").iterdir() if path.is_file()}
    rebuilt = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert committed.keys() == rebuilt.keys(), "run `make schemas`"
    assert [name for name in rebuilt if rebuilt[name] != committed[name]] == [], "run `make schemas`"


def test_baseline_is_the_present_contract(compiled: Any) -> None:
    assert evolution.dump(evolution.describe(compiled)) == evolution.BASELINE.read_text(), "run `make schemas`"


def test_every_message_begins_with_the_same_header(compiled: Any) -> None:
    for table in contract.merge(compiled).roots:
        fields = evolution.describe(compiled)["tables"][table.name]["fields"][:5]
        assert [(field["name"], field["type"]) for field in fields] == HEADER, table.name


def test_every_field_says_what_it_means_and_every_number_its_unit(compiled: Any) -> None:
    silent, unitless = [], []
    for message in contract.merge(compiled).messages:
        for member in message.members:
            text = " ".join(member.doc)
            if not text:
                silent.append(f"{message.name}.{member.name}")
            elif member.kind.startswith("Scalar<") and member.kind != "Scalar<bool>" and not UNITS.search(text):
                unitless.append(f"{message.name}.{member.name}: {text}")
    assert silent == []
    assert unitless == []


def test_times_are_signed_and_amounts_are_integers(compiled: Any) -> None:
    for name, table in evolution.describe(compiled)["tables"].items():
        for field in table["fields"]:
            place, kind = f"{name}.{field['name']}", field["type"]
            if field["name"].endswith("_ns"):
                assert kind in {"long", "ulong"}, place
            if re.search(r"(amount|profit|fee|fees|tip|tips|cost|lamports)(_|$)", field["name"]) and kind == "double":
                assert field["name"].endswith(("_bps", "_risk", "_ratio")), f"{place}: money is never a float"


def test_zero_is_the_safe_value_of_every_enumeration(compiled: Any) -> None:
    for name, enum in evolution.describe(compiled)["enums"].items():
        assert 0 in enum["values"].values(), name
        assert list(enum["values"].values()) == sorted(enum["values"].values()), name


def change(path: str, **changes: Any) -> evolution.Description:
    """The present contract with one field or enumeration changed."""
    now = copy.deepcopy(evolution.load())
    table, _, field = path.partition(".")
    if field:
        next(item for item in now["tables"][table]["fields"] if item["name"] == field).update(changes)
    else:
        now["tables"][table].update(changes)
    return now


def without_field(table: str, field: str) -> evolution.Description:
    now = copy.deepcopy(evolution.load())
    now["tables"][table]["fields"] = [item for item in now["tables"][table]["fields"] if item["name"] != field]
    return now


def swapped(table: str, one: int, other: int) -> evolution.Description:
    now = copy.deepcopy(evolution.load())
    fields = now["tables"][table]["fields"]
    fields[one]["slot"], fields[other]["slot"] = other, one
    return now


def enum_with(name: str, values: dict[str, int]) -> evolution.Description:
    now = copy.deepcopy(evolution.load())
    now["enums"][name]["values"] = values
    return now


@pytest.mark.parametrize(
    ("now", "complaint"),
    [
        (without_field("Leg", "slot"), "Leg.slot: the field was removed"),
        (swapped("Leg", 2, 3), "a field is never moved or renamed"),
        (change("Leg.amount_in", type="long"), "Leg.amount_in: the type changed from ulong to long"),
        (change("Leg.amount_in", default=5), "Leg.amount_in: the default changed from 0 to 5"),
        (change("Leg.amount_in", name="amount"), "a field is never moved or renamed"),
        (change("Opportunity", identifier="OPP2"), "Opportunity: the identifier changed"),
        (enum_with("Mode", {"PAPER": 0, "LIVE": 1}), "Mode.LOCALNET: the value 1 was removed"),
        (
            enum_with("Mode", {"LIVE": 0, "LOCALNET": 1, "PAPER": 2}),
            "Mode.PAPER: the value 0 was removed or renumbered",
        ),
    ],
)
def test_a_breaking_change_is_refused(now: evolution.Description, complaint: str) -> None:
    assert any(complaint in found for found in evolution.violations(evolution.load(), now))


def test_growth_is_allowed() -> None:
    now = enum_with("Mode", {"PAPER": 0, "LOCALNET": 1, "LIVE": 2, "REPLAY": 3})
    now["tables"]["Leg"]["fields"].append(
        {"slot": 10, "name": "fee", "type": "ulong", "default": 0, "deprecated": False}
    )
    now["tables"]["Later"] = {"identifier": "LATE", "fields": []}
    assert evolution.violations(evolution.load(), now) == []
    assert evolution.violations(evolution.load(), change("Leg.slot", deprecated=True)) == []


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ('table T (identifier: "TOOLONG") { a:int; }', "not four bytes long"),
        ("table T { a:string (required); }", "can never be retired"),
        ("struct S { a:int; } table T { a:S; }", "structs can not grow"),
        ("table T { lambda_:int; match:int; }", "T.match: the name is taken"),
        ("table T { }", "T: a table needs a field"),
        ("table T { encode:int; }", "T.encode: the name is taken"),
        ("enum E : int { A = 0 } table T { e:E; }", "enumerations are `: ubyte`"),
        ("table T { a:int = null; }", "not known to the codec"),
        ('table T (identifier: "SAME") { a:int; } table U (identifier: "SAME") { a:int; }', "share one identifier"),
    ],
)
def test_what_the_codec_does_not_know_is_refused(flatc: str, tmp_path: Path, schema: str, complaint: str) -> None:
    (tmp_path / "x.fbs").write_text(f'namespace generated; attribute "identifier"; {schema}')
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(contract.Unsupported, match=re.escape(complaint)):
        contract.merge(generate.compile_schemas(flatc, tmp_path, out))


def test_stubs_tell_the_truth() -> None:
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", "generated.messages"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
