"""The comment: what loses data comes first, each change says why, and the same plans give the same text."""

from dataclasses import replace

from local.plan import Change, Finding, Operation, Plan, Property
from local.preview_comment import LONGEST, MARKER, comment, headline

CACHE = "aws:elasticache/replicationGroup:ReplicationGroup"
ROLE = "aws:iam/role:Role"


def change(operation: Operation, type_: str, name: str, *properties: Property, protected: bool = False) -> Change:
    return Change(f"urn:pulumi:prod::llm::{type_}::{name}", type_, name, operation, protected, properties)


PLAN = Plan(
    "prod",
    (
        change("create", ROLE, "new"),
        change("update", ROLE, "changed", Property("description", "a", "b", replaces=False)),
        change("delete", ROLE, "gone"),
        change("delete", "aws:s3/bucket:Bucket", "models"),
        change("replace", ROLE, "renamed", Property("name", "a", "b", replaces=True)),
        change(
            "replace", CACHE, "cache-group",
            Property("description", "x", "y", replaces=False), Property("port", "6379", "6380", replaces=True),
            protected=True,
        ),
        change("same", ROLE, "kept"),
    ),
    warnings=("a | b <b>",),
    findings=(Finding("FIT_SPARE", "models.chat: is tight", "warning"),),
)  # fmt: skip

TEXT = f"""{MARKER}
## Preview against `origin/main`

### prod: 2 replaced, 2 deleted, 1 changed, 1 created, 1 unchanged

**2 protected or stateful resources would be replaced or deleted:**

| | resource | type | because | protected |
|---|---|---|---|---|
| replaced | `cache-group` | {CACHE} | `port`: `6379` to `6380` | yes |
| deleted | `models` | aws:s3/bucket:Bucket | it is gone from the program | no |

**1 replaced**

| resource | type | properties |
|---|---|---|
| `renamed` | {ROLE} | `name`: `a` to `b` |

**1 deleted**

| resource | type |
|---|---|
| `gone` | {ROLE} |

**1 changed**

| resource | type | properties |
|---|---|---|
| `changed` | {ROLE} | `description`: `a` to `b` |

<details><summary>1 created</summary>

| resource | type |
|---|---|
| `new` | {ROLE} |

</details>

<details><summary>1 finding</summary>

- models.chat: is tight [FIT_SPARE]

</details>

<details><summary>1 warning</summary>

- a \\| b &lt;b>

</details>
"""


def test_the_whole_text() -> None:
    assert comment("origin/main", [PLAN]) == TEXT


def test_headline_leaves_out_what_there_is_none_of() -> None:
    assert headline(Plan("dev")) == "no resources"
    assert headline(replace(PLAN, changes=PLAN.changes[:2])) == "1 changed, 1 created"


def test_no_changes() -> None:
    plan = Plan("dev", (change("same", ROLE, "kept"),))
    assert comment("main", [plan]) == f"{MARKER}\n## Preview against `main`\n\n### dev: no changes\n"


def test_no_stack_is_touched() -> None:
    assert comment("main", []) == f"{MARKER}\n## Preview against `main`\n\nNo stack is touched.\n"


def test_a_stack_that_cannot_be_planned_says_why() -> None:
    text = comment("main", [Plan("dev", problems=("network.cidr: is wrong", "second"))])
    assert "### dev: cannot be previewed\n\n```text\nnetwork.cidr: is wrong\nsecond\n```\n" in text


def test_a_long_list_is_folded() -> None:
    few = Plan("dev", tuple(change("update", ROLE, f"role-{index:02}") for index in range(10)))
    assert "<details>" not in comment("main", [few])
    many = Plan("dev", tuple(change("update", ROLE, f"role-{index:02}") for index in range(11)))
    assert "<details><summary>11 changed</summary>" in comment("main", [many])


def test_it_fits_into_a_comment_and_keeps_what_is_dangerous() -> None:
    roles = tuple(change("create", ROLE, f"role-{index:05}") for index in range(5000))
    dangerous = change("replace", CACHE, "cache-group", Property("port", "1", "2", replaces=True), protected=True)
    text = comment("main", [Plan("prod", (*roles, dangerous))])
    assert len(text) <= LONGEST
    assert "| replaced | `cache-group` |" in text
    assert "5000 created" in text
    assert "Too many changes to list here." in text
    stacks = [Plan(f"prod{index}", (dangerous,) * 100) for index in range(20)]
    text = comment("main", stacks)
    assert len(text) <= LONGEST
    assert text.endswith("The rest is too long for a comment: `make preview-comment` shows it.\n")


def test_a_name_cannot_break_out_of_its_cell() -> None:
    text = comment("main", [Plan("dev", (change("delete", ROLE, "a|b`c\nd"),))])
    assert "| `a\\|b'c d` |" in text


def test_a_replacement_without_a_told_reason_lists_what_differs() -> None:
    plain = change("replace", ROLE, "x", Property("tags", "", "", replaces=False))
    assert "| `x` | aws:iam/role:Role | `tags` |" in comment("main", [Plan("dev", (plain,))])
    untold = change("replace", ROLE, "x")
    assert "| `x` | aws:iam/role:Role | not told by the provider |" in comment("main", [Plan("dev", (untold,))])
