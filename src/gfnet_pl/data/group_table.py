"""The table of what is known of each group: a signer's light, a patient's age, a camera's make.

It never changes what is trained. It is written into the results, so that a report can say for whom a net works.
"""

import logging
from collections.abc import Collection
from pathlib import Path

from gfnet_pl.data.manifest import users_table
from gfnet_pl.errors import UserError
from gfnet_pl.tables import read_records

log = logging.getLogger(__name__)

KEY = "data.group_table"
Properties = dict[str, dict[str, str]]


def read_group_table(path: Path) -> Properties:
    """Reads a CSV file with a column `group` and others of any name: a row per group, text or numbers.

    Returns:
        The values of each group by column; "" where a cell is empty.

    Raises:
        UserError: The file is missing or no such table, or it has a group twice.
    """
    without = f"or give --{KEY} null to go without"
    rows: Properties = {}
    with users_table(path, KEY, f", {without}") as file:
        for row in read_records(file):
            if "group" not in row or len(row) < 2:
                raise UserError(f"{KEY}: {path} needs a column group and others, and has {','.join(row)}")
            group = row.pop("group").strip()
            if group in rows:
                raise UserError(f"{KEY}: {path} has the group {group!r} twice; keep one row")
            rows[group] = {name: value.strip() for name, value in row.items()}
    if not rows:
        raise UserError(f"{KEY}: {path} has no row; give one per group, {without}")
    return rows


def of_groups(table: Properties, groups: Collection[str], source: Path) -> Properties:
    """The rows of the data's groups. One line says which groups have none, and which rows are of no group.

    Args:
        table: What `read_group_table` returns.
        groups: The data's groups, "" among them where some pictures have none.
        source: The table's file, for the message.
    """
    known = set(groups) - {""}
    lacking, strange = sorted(known - table.keys()), sorted(table.keys() - known)
    said = [f"has no row of {_named(lacking)}"] if lacking else []
    said += [f"has rows of {_named(strange)}, which the data do not have"] if strange else []
    if not known:
        said = ["is not used: the data have no groups; give data.group_by"]
    if said:
        log.warning("%s: %s %s", KEY, source, " and ".join(said))
    return {group: table[group] for group in sorted(known & table.keys())}


def _named(groups: list[str]) -> str:
    return groups[0] if len(groups) == 1 else f"{len(groups):,} groups, first {groups[0]}"
