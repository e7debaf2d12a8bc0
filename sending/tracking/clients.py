"""Tell machines from people by what a request says of itself.

Mail privacy proxies and security gateways fetch pixels and follow links before anyone has read the
mail. Their opens and clicks are recorded, but counted apart.
"""

from __future__ import annotations

import datetime as dt
import re

# Names that image proxies, scanners and link checkers give themselves (seen in server logs and in
# the makers' documentation); "Mozilla/5.0" alone is what Apple's mail privacy proxy sends.
_MACHINE_AGENTS = re.compile(
    r"GoogleImageProxy|YahooMailProxy|ggpht|BingPreview|Barracuda|Mimecast|Proofpoint|urldefense|"
    r"SafeLinks|Symantec|FireEye|Cloudmark|MessageLabs|TrendMicro|Sophos|scanner|preview|bot\b|"
    r"spider|crawl|curl/|wget/|python-|Java/|Go-http-client|HeadlessChrome",
    re.IGNORECASE,
)
_BARE_AGENTS = frozenset({"", "Mozilla/5.0", "Mozilla/4.0"})
# Nobody reads and clicks within this time of the hand-over; gateways do before the mail is shown.
_TOO_SOON = dt.timedelta(seconds=1)


def is_image_proxy(user_agent: str) -> bool:
    """Tell whether a proxy fetched the image because a person opened the mail.

    Gmail's and Yahoo's proxies fetch when the mail is opened: such an open is a person's.
    """
    return "GoogleImageProxy" in user_agent or "YahooMailProxy" in user_agent


def is_machine(
    user_agent: str, *, delivered_at: dt.datetime | None, at: dt.datetime, method: str = "GET"
) -> bool:
    """Tell whether a fetch was a machine's: by its name, its haste, or a HEAD request."""
    if method == "HEAD" or user_agent.strip() in _BARE_AGENTS:
        return True
    if is_image_proxy(user_agent):
        return False
    if _MACHINE_AGENTS.search(user_agent):
        return True
    return delivered_at is not None and at - delivered_at < _TOO_SOON
