"""Triage: the policy, the rules that decide, and the order of picks.  No I/O."""
