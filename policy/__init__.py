"""Words and judgement: value types of the field, claims, policies, decisions. Pure."""
