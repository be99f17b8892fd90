"""The owner's rules, in Rego, evaluated behind a fence."""
