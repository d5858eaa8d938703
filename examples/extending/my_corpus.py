"""A corpus: the rows of a CSV file, such as the tickets of a help desk."""

import csv

from refrag_rl.corpora.documents import Document
from refrag_rl.errors import UserError


def load(path, text_column="text", id_column="id", domain="tickets"):
    """Return one document a row, in the order of the file.

    The split of a document depends on its id alone, so ids have to stay as they are.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"corpus.path={path} cannot be read ({error})") from error
    if not rows or not {text_column, id_column} <= rows[0].keys():
        raise UserError(f"corpus.path={path} has no rows with {id_column} and {text_column}")
    return [Document(id=row[id_column], domain=domain, text=row[text_column]) for row in rows]
