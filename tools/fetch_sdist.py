"""Fetch a source archive by name from the package index that pip is set up with, without building it.

`pip download` runs the package's build to learn its metadata (minutes for a C++ project), so pip's own finder is asked
for the link and pip's own session fetches it. Run with the fetch-venv's Python, whose pip is Debian's.

    fetch_sdist.py NAME FILE DESTINATION
"""

import os
import sys

from pip._internal.commands import create_command

name, file, destination = sys.argv[1:4]
command = create_command("download")
options, _ = command.parse_args(["--no-binary", ":all:", name])
with command.main_context():
    session = command.get_default_session(options)  # type: ignore[attr-defined]
    finder = command._build_package_finder(options=options, session=session)  # type: ignore[attr-defined]
    links = [c.link for c in finder.find_all_candidates(name) if c.link.filename == file]
    if not links:
        sys.exit(f"the package index has no {file}")
    answer = session.get(links[0].url)
    answer.raise_for_status()
    with open(destination + ".part", "wb") as out:
        out.write(answer.content)
    os.replace(destination + ".part", destination)
