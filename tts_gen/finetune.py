"""Starting from another run's parameters: new phonemes, speakers and styles get new rows, all else is kept."""

import logging
from typing import Any

import numpy as np

from tts_gen.config import UserError
from tts_gen.features.inventory import Inventory

log = logging.getLogger(__name__)

TABLES = {"phoneme": "phonemes", "speaker": "speakers", "style": "styles"}
"""embedding of the encoder -> what its rows stand for in an inventory"""


def carry_over(old: dict, known: Inventory, fresh: dict, inventory: Inventory, where: str) -> dict:
    """Parameters [nested dict of arrays] with the shapes of `fresh` and the values of `old`, whose rows of the
    encoder's tables go by name; a name that only `inventory` has keeps its fresh row.

    Raises UserError, with the first of them, where the two models have other parameters or shapes.
    """
    old = _with_rows(old, known, fresh, inventory, where)
    a, b = _leaves(old), _leaves(fresh)
    shapes = {name: (_shape(a.get(name)), _shape(b.get(name))) for name in sorted(a.keys() | b.keys())}
    wrong = [f"{name} {there} in {where}, {here} here" for name, (there, here) in shapes.items() if there != here]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"train.init_from: {where} is another model: {'; '.join(wrong[:3])}{more}; give its settings of encoder "
            "and decoder, or train from nothing"
        )
    return old


def _with_rows(old: dict, known: Inventory, fresh: dict, inventory: Inventory, where: str) -> dict:
    encoder = dict(old["encoder"])
    for table, field in TABLES.items():
        before, after = getattr(known, field), getattr(inventory, field)
        if "embedding" not in fresh["encoder"][table]:  # speakers by embeddings have no rows
            continue
        rows, own = np.array(fresh["encoder"][table]["embedding"]), np.asarray(encoder[table]["embedding"])
        if rows.shape[1:] == own.shape[1:]:
            shared = [(after.index(name), before.index(name)) for name in before if name in after]
            for to, source in shared:
                rows[to] = own[source]
            new = [name for name in after if name not in before]
            log.info("%s: %d of %d %s kept, new: %s", where, len(shared), len(before), field, ", ".join(new) or "none")
            encoder[table] = {"embedding": rows}
    return old | {"encoder": encoder}


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("/"): tree}
    return {name: leaf for key, branch in tree.items() for name, leaf in _leaves(branch, f"{prefix}{key}/").items()}


def _shape(leaf: Any) -> str:
    return "absent" if leaf is None else str(list(leaf.shape))
