"""Names of background jobs that the audience starts."""

from __future__ import annotations

from typing import Final

CHECK_IMPORT: Final = "audience.check_import"
RUN_IMPORT: Final = "audience.run_import"
RESUME_IMPORTS: Final = "audience.resume_imports"
FORGET_IMPORT_FILES: Final = "audience.forget_import_files"

# Upward by name: the messages room makes mail of it (tenant id, subscription id, form id).
SEND_CONFIRMATION: Final = "messages.send_confirmation"
