"""What is done with routes: by operators, by results, by the clock."""

from sending.routes.services.checks import check_route, check_routes, renew_token
from sending.routes.services.results import note_results, result_of
from sending.routes.services.routes import remove_route, save_route, test_route
from sending.routes.services.sets import (
    assign_route_set,
    remove_route_set,
    save_route_set,
    set_default_route,
)
from sending.routes.services.webhooks import (
    hook_secrets,
    note_call,
    note_refusal,
    note_unmatched,
    renew_webhook,
    save_webhook,
)

__all__ = [
    "assign_route_set",
    "check_route",
    "check_routes",
    "hook_secrets",
    "note_call",
    "note_refusal",
    "note_results",
    "note_unmatched",
    "remove_route",
    "remove_route_set",
    "renew_token",
    "renew_webhook",
    "result_of",
    "save_route",
    "save_route_set",
    "save_webhook",
    "set_default_route",
    "test_route",
]
