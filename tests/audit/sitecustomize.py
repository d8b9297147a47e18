"""Python imports this file as it starts, where this folder is on PYTHONPATH: AUDIT_LOG gets a line for each class or
function that is looked up for a pickle, which is how a pickle runs code."""

import os
import sys

LOG = os.environ["AUDIT_LOG"]


def hook(event: str, arguments: tuple) -> None:
    if event == "pickle.find_class":
        with open(LOG, "a") as log:
            log.write(f"{' '.join(sys.orig_argv[1:3])}: {'.'.join(map(str, arguments[1:]))}\n")


sys.addaudithook(hook)
