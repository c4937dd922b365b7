"""Measurements behind `scripts/benchmark.py`: one module per subcommand, importable without torch.

A subcommand module has `add_arguments(parser)` and `run(arguments)`, which yields `Row`s; whatever is heavy is imported
inside `run`.
"""
