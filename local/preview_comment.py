"""The comment on a pull request: what it would do to each stack, the dangerous first. The same plans, the same text."""

from collections.abc import Iterable, Sequence

from local.plan import Change, Operation, Plan

MARKER = "<!-- llm-serving-preview -->"
"""The first line, by which CI finds the comment to update."""
LONGEST = 60_000
"""GitHub takes 65,536 characters in a comment; the rest is for what CI may add."""
FEW = 10
"""Rows that are shown unfolded."""

_DONE: dict[Operation, str] = {
    "create": "created",
    "update": "changed",
    "replace": "replaced",
    "delete": "deleted",
    "same": "unchanged",
}
_HEADLINE: tuple[Operation, ...] = ("replace", "delete", "update", "create", "same")


def comment(base: str, plans: Sequence[Plan]) -> str:
    """The whole comment, in Markdown; `base` is what the plans are against."""
    head = f"{MARKER}\n## Preview against {_code(base)}\n"
    if not plans:
        return f"{head}\nNo stack is touched.\n"
    text = "\n".join([head, *(_section(plan, folded=False) for plan in plans)])
    if len(text) > LONGEST:
        text = "\n".join([head, *(_section(plan, folded=True) for plan in plans)])
    if len(text) > LONGEST:
        rest = "\n\nThe rest is too long for a comment: `make preview-comment` shows it.\n"
        text = text[: LONGEST - len(rest)] + rest
    return text


def headline(plan: Plan) -> str:
    """One line for a stack, such as `1 replaced, 2 changed, 140 unchanged`; operations without any are left out."""
    counts = plan.counts
    parts = [f"{counts[operation]} {_DONE[operation]}" for operation in _HEADLINE if counts[operation]]
    return ", ".join(parts) or "no resources"


def is_dangerous(change: Change) -> bool:
    """Whether a change may lose data, or takes away what was protected against it."""
    return change.operation in ("replace", "delete") and (change.protected or change.stateful)


def _section(plan: Plan, *, folded: bool) -> str:
    """A stack's part of the comment; `folded` leaves out all but the dangerous rows."""
    if plan.problems:
        lines = "\n".join(plan.problems)
        return f"### {plan.stack}: cannot be previewed\n\n```text\n{lines}\n```\n"
    dangerous = sorted(filter(is_dangerous, plan.changes), key=lambda change: change.operation != "replace")
    rest = [change for change in plan.changes if not is_dangerous(change)]
    changed = plan.counts["same"] != len(plan.changes)
    parts = [f"### {plan.stack}: {headline(plan) if changed else 'no changes'}\n"]
    if dangerous:
        what = "protected or stateful resource" + ("s" if len(dangerous) > 1 else "")
        parts.append(f"**{len(dangerous)} {what} would be replaced or deleted:**\n\n{_dangerous(dangerous)}")
    if folded:
        return "\n".join([*parts, "Too many changes to list here.\n"])
    for operation in ("replace", "delete", "update", "create"):
        parts.extend(_list(operation, [change for change in rest if change.operation == operation]))
    parts.extend(_messages("finding", [each.text for each in plan.findings]))
    parts.extend(_messages("warning", plan.warnings))
    return "\n".join(parts)


def _dangerous(changes: Iterable[Change]) -> str:
    rows = ["| | resource | type | because | protected |", "|---|---|---|---|---|"]
    for change in changes:
        because = _properties(change, forcing=True) if change.operation == "replace" else "it is gone from the program"
        protected = "yes" if change.protected else "no"
        rows.append(f"| {_DONE[change.operation]} | {_code(change.name)} | {change.type} | {because} | {protected} |")
    return "\n".join(rows) + "\n"


def _list(operation: Operation, changes: Sequence[Change]) -> Iterable[str]:
    if not changes:
        return
    detailed = operation in ("replace", "update")
    rows = ["| resource | type | properties |", "|---|---|---|"] if detailed else ["| resource | type |", "|---|---|"]
    for change in changes:
        cells = [_code(change.name), change.type]
        if detailed:
            cells.append(_properties(change, forcing=operation == "replace"))
        rows.append(f"| {' | '.join(cells)} |")
    table = "\n".join(rows)
    title = f"{len(changes)} {_DONE[operation]}"
    is_long = len(changes) > FEW or operation == "create"
    yield _details(title, table) if is_long else f"**{title}**\n\n{table}\n"


def _properties(change: Change, *, forcing: bool) -> str:
    """The properties behind a change: those that force it, or all, the first few."""
    chosen = [each for each in change.properties if each.replaces or not forcing] or change.properties
    texts: list[str] = []
    for each in chosen[:FEW]:
        values = f": {_code(each.old or 'none')} to {_code(each.new or 'none')}" if each.old or each.new else ""
        texts.append(_code(each.path) + values)
    more = [f"{len(chosen) - FEW} more"] if len(chosen) > FEW else []
    return ", ".join([*texts, *more]) or "not told by the provider"


def _messages(word: str, messages: Sequence[str]) -> Iterable[str]:
    if messages:
        title = f"{len(messages)} {word}" + ("s" if len(messages) > 1 else "")
        yield _details(title, "\n".join(f"- {_plain(message)}" for message in messages))


def _details(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>\n"


def _code(text: str) -> str:
    """Text as Markdown code that stays in its table cell."""
    return f"`{_plain(text).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """Text on one line that neither ends a table cell nor opens an HTML element."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
