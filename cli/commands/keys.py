"""The command `key`: the user's key for signatures, and the keys that the user trusts."""

from __future__ import annotations

from collections.abc import Sequence

from cli.display.plain_table import table
from cli.request.flags import Flags
from foundations.environment import Environment
from foundations.errors import UsageError, choose_from
from foundations.program import PROGRAM
from foundations.storage.signatures import make_key, public_key, trust, trusted_keys

_ACTIONS = {"make": 0, "show": 0, "trust": 2, "list": 0}
"""The actions, and the number of words that each takes."""


KEY = Flags(
    "key",
    "Make and show your key for signatures, and trust others' (key make, show, trust NAME KEY, list). "
    "OPEN_PRUNE_KEY and OPEN_PRUNE_TRUSTED_KEYS name other files than those in ~/.config/open_prune.",
)


def key(argv: Sequence[str], environment: Environment) -> int:
    """`key ACTION`: the user's key for signatures, and the keys that the user trusts."""
    names = KEY.read(argv)[0]
    if not names:
        raise UsageError(f"key takes an action: {PROGRAM} key {', '.join(_ACTIONS)}")
    action, *words = names
    if action not in _ACTIONS:
        raise UsageError(f"'{action}' is not an action of key{choose_from(action, _ACTIONS)}")
    if len(words) != _ACTIONS[action]:
        raise UsageError(f"key {action} takes {'a name and a public key' if _ACTIONS[action] else 'nothing else'}.")
    if action == "make":
        public = make_key(environment.key_file)
        print(f"{public}\nWrote your key to {environment.key_file}; the line above is its public part.")
    elif action == "show":
        print(public_key(environment.key_file))
    elif action == "trust":
        trust(words[0], words[1], environment.trusted_keys)
        print(f"Signatures by this key count as {words[0]}'s. The list is {environment.trusted_keys}")
    else:
        known = [{"name": name, "key": of} for of, name in trusted_keys(environment.trusted_keys).items()]
        print(table(known, ("name", "key")) if known else f"No trusted keys. `{PROGRAM} key trust NAME KEY` adds one.")
    return 0
