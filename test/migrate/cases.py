"""All cases of the suite. Each says in `about` what it is for; case.py says what the fields mean."""

from case import Case, output
from cases_own import OWN
from cases_tools import TOOLS

# Only for the harness's own test: ends on `stop`, within a short deadline.
HANG = Case("harness-hang", "(harness)", ["sh", "-c", "echo ready; while [ ! -e stop ]; do :; done"], ready=output(b"ready"), deadline=2)

ALL = sorted(OWN + TOOLS, key=lambda case: case.name)
assert len({case.name for case in ALL}) == len(ALL)
