"""DKIM signatures: of any message, and of many whose heads are alike."""
