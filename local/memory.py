"""How much memory the environment's processes take, counted by their share of pages (PSS)."""

from collections import defaultdict
from pathlib import Path


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _proportional_set_size(pid: int) -> int:
    """Bytes of a process, its shared pages divided by those who share them; 0 where it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def families(roots: list[int]) -> dict[int, list[int]]:
    """The processes that descend from each of the given ones, those included, up to the next given one."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(int(entry.name))) is not None:
            children[parent].append(int(entry.name))
    found: dict[int, list[int]] = {}
    for root in roots:
        family = [root]
        for pid in family:
            family.extend(child for child in children[pid] if child not in roots)
        found[root] = family
    return found


def resident(roots: list[int]) -> dict[int, int]:
    """Bytes that each given process and its descendants hold, without the families of other given ones."""
    return {root: sum(map(_proportional_set_size, family)) for root, family in families(roots).items()}
