"""How long and how fast to train, as options of a subcommand."""

from __future__ import annotations

import argparse
import dataclasses

from unirestore_ros.train.loop import Plan


def add_plan(parser: argparse.ArgumentParser, plan: Plan) -> None:
    parser.add_argument("--iterations", type=int, default=plan.iterations)
    parser.add_argument("--rate", type=float, default=plan.learning_rate, help="learning rate")


def chosen(arguments: argparse.Namespace, plan: Plan) -> Plan:
    """The plan with the options' values."""
    return dataclasses.replace(plan, iterations=arguments.iterations, learning_rate=arguments.rate)
