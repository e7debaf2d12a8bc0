"""What an entry's action is in words: "apikeys.create" reads "created the API key"."""

from __future__ import annotations

from typing import Final

_SENTENCES: Final[dict[str, str]] = {
    "apikeys.create": "created the API key",
    "apikeys.revoke": "revoked the API key",
    "directory.change_role": "changed the role of",
    "directory.create_tenant": "created the workspace",
    "directory.invite_member": "invited",
    "directory.join": "joined the workspace as",
    "directory.leave": "left the workspace as",
    "directory.remove_member": "removed the member",
    "directory.revoke_invitation": "took back the invitation of",
    "directory.set_weight": "set the share of the workspace",
    "directory.suspend_tenant": "suspended the workspace",
    "directory.unsuspend_tenant": "lifted the suspension of the workspace",
    "directory.update_workspace": "changed the settings of the workspace",
    "directory.view_tenant": "looked at the workspace",
    "domains.add": "added the sending domain",
    "domains.check": "checked the DNS records of",
    "domains.remove": "removed the sending domain",
    "holds.lift": "lifted the hold",
    "holds.place": "held the mail of",
    "ips.assign_pool": "assigned an IP pool to",
    "ips.unassign_pool": "took the IP pool from",
    "lanes.bounce": "ended the mail that waited in the lane",
    "lanes.clear_limit": "took away the limit of",
    "lanes.drain": "drained the lane",
    "lanes.lift": "lifted the suspension of the lane",
    "lanes.pause": "paused the lane",
    "lanes.requeue": "requeued the mail of the lane",
    "lanes.resume": "resumed the lane",
    "lanes.set_limit": "set a limit for",
    "tls.release": "takes plain TLS again for mail to",
    "tls.require": "demands verified TLS for mail to",
}
_ROOMS: Final[dict[str, str]] = {
    "apikeys": "API key",
    "audience": "contact",
    "campaigns": "campaign",
    "content": "template",
    "domains": "sending domain",
    "ips": "source IP",
    "messages": "message",
    "templates": "template",
    "rehearsal": "records",
}
_PAST: Final[dict[str, str]] = {
    "send": "sent",
    "begin": "began",
    "cancel": "cancelled",
    "put": "put",
    "set": "set",
    "run": "ran",
    "update": "changed",
    "edit": "changed",
    "stop": "stopped",
    "drop": "dropped",
    "map": "mapped",
    "make": "made",
}


def _past(verb: str) -> str:
    if verb in _PAST:
        return _PAST[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ied"
    return f"{verb}ed"


def words_for(action: str) -> str:
    """Return the words between who did it and what it was done to."""
    if action in _SENTENCES:
        return _SENTENCES[action]
    room, _, rest = action.partition(".")
    verb, _, noun = rest.partition("_")
    if not verb:
        return action
    noun = noun.replace("_", " ") or _ROOMS.get(room, room)
    return f"{_past(verb)} the {noun}"
