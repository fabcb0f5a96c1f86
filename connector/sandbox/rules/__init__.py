"""The vendor's rules: what an operation does to the people and objects of a workspace."""
