"""The harness: real engines, guardians and children, killed, stopped and starved on purpose."""
