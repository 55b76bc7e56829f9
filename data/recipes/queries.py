"""Writes texts to measure searches with: what people might type about the town, none of them a prompt that routers are fitted on.

python -m data.recipes.queries
"""

import json
import random

from data.recipes.captions import Captioner
from data.recipes.casting import cast
from data.recipes.facts import facts
from data.recipes.prompts import EXAMPLES, PROMPTS

QUERIES = PROMPTS.with_name("queries.txt")
COUNT = 400
SEED = 5_000_000
"""Far from the seeds of scenes that are drawn to train or to judge the encoder."""
SECONDS = 4.0
"""When in its scene a text is true."""
_MOST_WORDS = 14


def queries() -> list[str]:
    """Different texts, each true of a made-up scene; none is a prompt or an example."""
    known = set(PROMPTS.read_text(encoding="utf-8").lower().splitlines())
    known.update(example["query"].lower() for example in json.loads(EXAMPLES.read_text(encoding="utf-8")))
    found: dict[str, None] = {}
    seed = SEED
    while len(found) < COUNT:
        rng = random.Random(seed)
        shot = cast(rng, seconds=SECONDS)
        caption = Captioner(rng).caption(facts(shot, SECONDS))
        if caption.needs and caption.text.lower() not in known and len(caption.text.split()) <= _MOST_WORDS:
            found[caption.text] = None
        seed += 1
    return list(found)


def main() -> None:
    QUERIES.write_text("\n".join(queries()) + "\n", encoding="utf-8", newline="\n")
    print(f"{COUNT} queries written to {QUERIES.name}")


if __name__ == "__main__":
    main()
