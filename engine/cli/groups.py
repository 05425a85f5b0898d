"""Groups of commands of which one is meant when none is named."""

from __future__ import annotations

import click


class DefaultGroup(click.Group):
    """``runoff run`` and ``runoff run --json`` mean ``runoff run list``; ``--help`` is the group's.

    The meant command is the first one defined.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the meant command in front when the arguments start with none."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)
