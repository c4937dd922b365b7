"""Measurements behind `scripts/benchmark.py`: one module per subcommand, importable without torch.

A subcommand module has `add_arguments(parser)` and `run(arguments)`, which yields `Row`s; slow libraries are imported
inside `run`.
"""
