"""A group of commands that is itself a verb: `morph A B OUT`, beside `morph words`."""

from __future__ import annotations

from typing import Any

import click


class Verb(click.Group):
    """A group whose first word, if it is none of its commands, is the first argument of its own, hidden one."""

    def __init__(self, *args: Any, own: str, takes: str, **settings: Any) -> None:
        """own: the name of the hidden command. takes: its arguments, as they are shown."""
        super().__init__(*args, **settings)
        self.own, self.takes = own, takes

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.own, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, f"{self.takes} [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the verb itself, then the other commands."""
        own = self.commands[self.own]
        rows = [
            row
            for option in own.get_params(ctx)
            if isinstance(option, click.Option) and (row := option.get_help_record(ctx))
        ]
        with formatter.section("Options"):
            formatter.write_dl(rows)
        others = [(name, c.get_short_help_str()) for name, c in self.commands.items() if not c.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(others)
