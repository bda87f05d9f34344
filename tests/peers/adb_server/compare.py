"""Whether both servers answered alike, and the table of differences that are meant: each row is seen, and nothing beside them."""

import difflib
import pathlib
import tomllib

TABLE = pathlib.Path(__file__).with_name("differences.toml")


class Differences:
    def __init__(self):
        self.rows = tomllib.loads(TABLE.read_text())["difference"]
        self.met = [set() for _ in self.rows]

    def explained(self, client, record, google):
        """Whether the table says just this."""
        for index, row in enumerate(self.rows):
            if row["command"] == record.name and client in row["clients"]:
                self.met[index].add(client)
                return fits(row["here"], record) and fits(row["google"], google)
        return False

    def stale(self, clients, families):
        for row, met in zip(self.rows, self.met):
            if row["family"] in families:
                for client in sorted((set(row["clients"]) & clients) - met):
                    yield f"differences.toml: `{row['command']}` of {client} does not differ"


def fits(expected, record):
    """An answer may be told by its end alone: `[1] …` stands for any text that contains what follows."""
    text = record.text().strip()
    if "…" not in expected:
        return text == expected.strip()
    code, part = expected.split("…", 1)
    return text.startswith(code.strip()) and part.strip() in text


def compare(client, ours, googles, differences):
    """What is wrong with what farmhand's server made of the commands."""
    if [record.name for record in ours] != [record.name for record in googles]:
        yield "the servers were not asked the same"
    for record, google in zip(ours, googles):
        if record.text() == google.text():
            continue
        if not differences.explained(client, record, google):
            lines = difflib.unified_diff(google.text().splitlines(), record.text().splitlines(), "google", "farmhand", n=1,
                                         lineterm="")
            yield f"`{record.name}` differs:\n" + "\n".join(lines)
