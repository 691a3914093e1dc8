"""Operators and auditors by the bearer tokens of an OpenID provider (``docs/adr/0060-operators-by-oidc.md``)."""
