"""Whether both servers answered alike, and the table of differences that are meant: each row is seen, and nothing beside them."""

import difflib
import pathlib
import tomllib

from stage import WAYS

TABLE = pathlib.Path(__file__).with_name("differences.toml")


class Differences:
    def __init__(self):
        self.rows = tomllib.loads(TABLE.read_text())["difference"]
        self.met = [set() for _ in self.rows]

    def explained(self, client, way, record, google):
        """Whether the table says just this of a client that comes this way."""
        for index, row in enumerate(self.rows):
            if row["command"] == record.name and client in row["clients"] and way in ways(row):
                self.met[index].add((client, way))
                return fits(row["here"], record) and fits(row["google"], google)
        return False

    def stale(self, clients, families):
        for row, met in zip(self.rows, self.met):
            if row["family"] in families:
                meant = {(client, way) for client in set(row["clients"]) & clients for way in ways(row)}
                for client, way in sorted(meant - met):
                    yield f"differences.toml: `{row['command']}` of {client} by {way} does not differ"


def ways(row):
    return row.get("ways", list(WAYS))


def fits(expected, record):
    """An answer may be told by its end alone: `[1] …` stands for any text that contains what follows."""
    text = record.text().strip()
    if "…" not in expected:
        return text == expected.strip()
    code, part = expected.split("…", 1)
    return text.startswith(code.strip()) and part.strip() in text


def compare(client, way, ours, googles, differences):
    """What is wrong with what came of the commands by one of the ways to farmhand."""
    if [record.name for record in ours] != [record.name for record in googles]:
        yield f"{way} was not asked the same as Google's server"
    for record, google in zip(ours, googles):
        if record.text() == google.text():
            continue
        if not differences.explained(client, way, record, google):
            lines = difflib.unified_diff(google.text().splitlines(), record.text().splitlines(), "google", way, n=1,
                                         lineterm="")
            yield f"`{record.name}` by {way} differs:\n" + "\n".join(lines)
