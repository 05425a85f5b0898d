"""The command ``runoff``: a tree of verbs, each imported only when it is used."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import NamedTuple

import click

from engine import __version__
from engine.cli.render import clean_lines, in_short
from engine.cli.streams import is_stdout_stuck, let_go_of_stdout, prepare
from engine.errors import RunoffError, failed_below, limit_met, not_written


class Verb(NamedTuple):
    """Where a verb's code is, and its line in the help; so that ``--help`` imports nothing."""

    place: str
    line: str


VERBS: Mapping[str, Verb] = {
    "demo": Verb("engine.cli.demo:demo", "Drain a sample backlog with real child processes."),
    "seed": Verb("engine.cli.backlog:seed", "Register the telemetry plan, or one of your own."),
    "import": Verb("engine.cli.backlog:import_", "Take in the backlog of an older database."),
    "drain": Verb("engine.cli.drain:drain", "Execute the backlog with many workers."),
    "daemon": Verb("engine.cli.daemon:daemon", "Drain continuously; talk to a daemon."),
    "run": Verb("engine.cli.look:run", "Look at runs; reinstate one."),
    "phase": Verb("engine.cli.look:phase", "Look at phases; requeue one."),
    "attempt": Verb("engine.cli.attempt_output:attempt", "Look at attempts; print what one wrote."),
    "session": Verb("engine.cli.look:session", "Look at drain sessions."),
    "policy": Verb("engine.cli.policy:policy", "List, show, check and compare policies."),
    "log": Verb("engine.cli.log:log", "Read the log itself."),
    "why": Verb("engine.cli.why:why", "Say why a run, phase or attempt stands so; or all of it."),
    "fingerprint": Verb("engine.cli.fingerprint:fingerprint", "Look at failures by fingerprint."),
    "breaker": Verb("engine.cli.breaker:breaker", "Look at circuit breakers; reset one."),
    "account": Verb("engine.cli.account:account", "Look at paused accounts; resume one."),
    "budget": Verb("engine.cli.budget:budget", "Show what was spent, against the limits."),
    "replay": Verb("engine.cli.replay:replay", "Show how everything stood, and what changed."),
    "detect": Verb("engine.cli.detect:detect", "Ask the detectors; list and explain their rules."),
    "identity": Verb("engine.cli.identity:identity", "Say which database this is."),
    "doctor": Verb("engine.cli.doctor:doctor", "Look for what could hurt a log."),
    "projection": Verb("engine.cli.projection:projection", "List, rebuild, check read models."),
    "reclassify": Verb("engine.cli.reclassify:reclassify", "Ask newer detectors of old attempts."),
    "whatif": Verb("engine.cli.whatif:whatif", "Hold another policy against the record."),
    "calibrate": Verb("engine.cli.calibrate:calibrate", "Propose better token estimates."),
    "estimate": Verb("engine.cli.estimate:estimate", "Say what a phase will take, and why."),
    "coefficients": Verb(
        "engine.cli.coefficients:coefficients", "Show, check, adopt what estimates are made from."
    ),
    "drift": Verb("engine.cli.drift:drift", "Watch whether estimates still hold."),
    "audit": Verb("engine.cli.audit:audit", "Take every decision again; check all else."),
    "verify": Verb("engine.cli.verify:verify", "Check the log against its invariants."),
    "collect_telemetry_data": Verb("engine.cli.backlog:collect_telemetry_data", ""),
}


class LazyTree(click.Group):
    """A group whose verbs are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The verbs in the order a newcomer meets them."""
        return [name for name, verb in VERBS.items() if verb.line]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Import one verb."""
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        if cmd_name == "daemon":
            # It may be told to read its settings again before it can hear that: let that wait.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        module, _, name = verb.place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """The list in the help, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(n, verb.line) for n, verb in VERBS.items() if verb.line])


@click.command(cls=LazyTree, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="runoff")
def runoff() -> None:
    """Drain a backlog of LLM-agent work, and prove afterwards why it went as it did.

    \b
    Examples:
      runoff demo
      runoff import old.db --database sqlite:///backlog.db
      runoff drain --database sqlite:///backlog.db --workers 4 -- python agent.py
      runoff why RUN --database sqlite:///backlog.db
    """  # noqa: D301  \b is click's mark for text that must not be wrapped


def main() -> None:
    """Run, and turn every expected error into one clear message and its exit code."""
    prepare()
    try:
        code = runoff.main(standalone_mode=False)
    except RunoffError as error:
        code = _failed(error)
    except OSError as error:
        code = _failed(_stuck(error) if is_stdout_stuck() else failed_below(error))
    except click.ClickException as error:
        code = _told(_shown(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        code = _told("runoff: interrupted.", 130)
    except (MemoryError, RuntimeError) as error:  # behind Abort, which is one of the latter
        limit = limit_met(error)
        if limit is None:
            raise
        code = _failed(limit)
    sys.exit(code if isinstance(code, int) else 0)


def _shown(error: click.ClickException) -> str:
    """What click says of it, which may quote an argument as it stands."""
    said = io.StringIO()
    error.show(said)
    return said.getvalue().removesuffix("\n")


def _stuck(error: OSError) -> RunoffError:
    let_go_of_stdout()  # or the interpreter complains of it once more when it ends
    return not_written("standard output", error)


def _failed(error: RunoffError) -> int:
    return _told(f"runoff: {error}", error.exit_code)


def _told(message: str, code: int) -> int:
    click.echo(clean_lines(in_short(message)), err=True)
    return code
