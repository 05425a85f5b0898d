"""The harness: real engines, real guardians and children, killed, stopped and starved on purpose."""
