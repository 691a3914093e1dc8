"""Evidence as it arrives: bytes and JSON become frozen values that keep their raw bytes. Nothing here is verified."""
