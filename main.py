"""Train, validate or test any of the three stages from YAML configs.

python main.py --base configs/first_stage/demo_vq_f4.yaml -t     # stage 1: the autoencoder
python main.py --base configs/ldm/demo.yaml -t                   # stage 2: latent diffusion
python main.py --base configs/demo.yaml -t                       # stage 3: MIDMs
python main.py --base configs/demo.yaml -t trainer.max_steps=100 data.params.batch_size=4
python main.py --base configs/demo.yaml -t --resume runs/demo    # go on where that run stopped
"""

from __future__ import annotations

import argparse
import sys

from midms.programs import no_garbage_collection, warn


def keys() -> str:
    """The config keys that all stages share, for `--help`."""
    from midms.schema import rows
    from midms.settings import RunSettings, TrainerSettings

    lines = ["keys of a config that are the same for all stages:"]
    for section, settings in (("run", RunSettings), ("trainer", TrainerSettings)):
        for key, kind, default, purpose in rows(settings):
            lines.append(f"  {section}.{key}: {purpose}")
            lines.append(f"      {kind}" + (f" (default {default})" if default else " (must be given)"))
    return "\n".join([*lines, "those of model.params and data.params stand in the class that `target` names"])


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line. Its `overrides` have the form key.path=value."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=keys(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", nargs="+", required=True, metavar="YAML", help="configs, merged from left to right")
    parser.add_argument("-t", "--train", action="store_true", help="train to trainer.max_steps")
    parser.add_argument(
        "--validate", action="store_true", help="run the validation set (with --resume: that checkpoint)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.add_argument("--resume", metavar="RUN", help="a run folder (its newest complete checkpoint) or a checkpoint")
    parser.add_argument("--run", metavar="DIR", help="folder of this run (default: run.root/run.name)")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    options = parser.parse_intermixed_args(arguments)
    if not (options.train or options.validate or options.dry_run):
        parser.error("nothing to do: give -t (train), --validate or --dry-run")
    files = [item for item in options.base if "=" not in item]
    options.overrides += [item for item in options.base if "=" in item]
    options.base = files
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, 2 after one line on a user's mistake, 130 or 143 after SIGINT or SIGTERM.
    """
    options = parse(arguments)
    from midms.training.errors import Interrupted
    from midms.training.signals import SIGNALS

    try:
        with SIGNALS.handled():
            with no_garbage_collection():
                from midms.training.missing import MissingFilesError
                from midms.training.run import USER_ERRORS, run

            try:
                run(options)
            except MissingFilesError as error:
                for line in error.lines:
                    warn(f"main.py: {' '.join(line.split())}")
                return 2
            except USER_ERRORS as error:
                warn(f"main.py: {' '.join(str(error).split())}")
                return 2
    except Interrupted as stop:
        print(f"main.py: {stop}", file=sys.stderr)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
