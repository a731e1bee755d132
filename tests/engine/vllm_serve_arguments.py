"""Reads the arguments of `vllm serve` as vLLM does, without starting it. Runs in the interpreter
that has vLLM.

Standard input: a JSON list of lists of arguments. Standard output: for each what it means, as JSON.
"""

import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

PLAIN = (str, int, float, bool, dict, list)


def main() -> None:
    found = []
    for arguments in json.load(sys.stdin):
        parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
        validate_parsed_serve_args(parsed)
        found.append({name: each for name, each in vars(parsed).items() if isinstance(each, PLAIN)})
    json.dump(found, sys.stdout)


main()
