"""The unit and the container file, in a machine of their own: systemd and podman for real."""
