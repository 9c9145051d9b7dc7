"""Validate a crate offline: PYTHON validate_crate.py CRATE, with a Python that has requirements-crate.txt.

Prints the faults of the profile Workflow Run Crate and of those that it extends, one a line. The only context that a
crate names is the one of RO-Crate 1.1, which rocrate 0.10 holds; whatever else is asked for is an error.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def get(_: Any, url: str, **__: Any) -> requests.Response:
    """Return the context from the package rocrate, or an error, in place of a download."""
    response = requests.Response()
    response.url, response.status_code = url, 200 if url == CONTEXT else 504
    response.headers["Content-Type"] = "application/ld+json"
    found = find_spec("rocrate")
    assert found is not None and found.origin is not None
    data = (Path(found.origin).parent / "data" / "ro-crate.jsonld").read_bytes()
    assert f'"@id": "{CONTEXT}"'.encode() in data[:200], "rocrate 0.10 is needed"
    response._content = data if url == CONTEXT else b""
    return response


def main() -> None:
    """Print the faults; with a second argument, also what is only recommended."""
    HttpRequester.get = get
    severity = models.Severity.RECOMMENDED if len(sys.argv) > 2 else models.Severity.REQUIRED
    settings = services.ValidationSettings(
        rocrate_uri=sys.argv[1], profile_identifier="workflow-run-crate", requirement_severity=severity
    )
    issues = services.validate(settings).get_issues()
    for issue in issues:
        print(issue.severity.name, issue.check.identifier, issue.violatingEntity, issue.message)
    print(f"{len(issues)} faults")


if __name__ == "__main__":
    main()
