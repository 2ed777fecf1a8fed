"""How any access record is changed."""
