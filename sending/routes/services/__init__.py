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

__all__ = [
    "assign_route_set",
    "check_route",
    "check_routes",
    "note_results",
    "remove_route",
    "remove_route_set",
    "renew_token",
    "result_of",
    "save_route",
    "save_route_set",
    "set_default_route",
    "test_route",
]
