"""What receivers demand of TLS: MTA-STS (RFC 8461), DANE (RFC 7672), and how sessions ended."""
