"""Amazon SES through anymail and boto3, which is an extra: `requirements/ses.txt`."""

from __future__ import annotations

from typing import Any

from anymail.backends import amazon_ses
from botocore.exceptions import ClientError


class _Finished:
    """Our bytes in the place of the MIME message that anymail would make of fields."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def walk(self) -> tuple[()]:
        """Say that nothing is to be re-encoded: that would break the signature."""
        return ()

    def as_bytes(self) -> bytes:
        """Return the message."""
        return self._raw


class SesRaw(amazon_ses.AmazonSESV2SendEmailPayload):  # type: ignore[misc]
    """POST /v2/email/outbound-emails with Content.Raw."""

    def finalize_payload(self) -> None:
        self.mime_message = _Finished(self.message.raw)
        # anymail's place for it is a header of the message that we do not let it make.
        tag = {"Name": "message_id", "Value": self.message.metadata["message_id"]}
        self.params["EmailTags"] = [tag]
        super().finalize_payload()


class SesBackend(amazon_ses.EmailBackend):  # type: ignore[misc]
    """anymail's backend with the route's own key, and no repeated calls.

    boto3 would repeat a call that timed out, and so send twice; trying again is the queue's.
    """

    def __init__(
        self,
        *,
        connect_seconds: float,
        total_seconds: float,
        access_key_id: str,
        secret_access_key: str,
        region: str,
        api_url: str,
        **options: Any,
    ) -> None:
        super().__init__(
            session_params={
                "aws_access_key_id": access_key_id,
                "aws_secret_access_key": secret_access_key,
                "region_name": region,
            },
            client_params={
                "endpoint_url": api_url,
                "config": {
                    "connect_timeout": connect_seconds,
                    "read_timeout": total_seconds,
                    "retries": {"total_max_attempts": 1},
                },
            },
            **options,
        )

    def try_key(self) -> str:
        """Return why the key is refused, "" when it is not (GetAccount sends nothing)."""
        try:
            self.client.get_account()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            # A key that may only send is known all the same.
            return "" if code == "AccessDeniedException" else str(error)
        return ""

    def build_message_payload(self, message: Any, defaults: Any) -> SesRaw:
        return SesRaw(message, defaults, self)
