"""Search for Chinese words: pairs of neighbouring characters are the terms, in the index as in what a reader types.

Sphinx's own way takes a dictionary of words. It finds 创建快照 only if the dictionary has that as one word. Pairs find
any part of a sentence, and need no dictionary.
"""

from __future__ import annotations

import re
from itertools import pairwise

from sphinx.search.en import SearchEnglish

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_RUNS = re.compile(rf"[{_HAN}]+|[a-z0-9_]+", re.IGNORECASE)
_IS_HAN = re.compile(rf"[{_HAN}]")


class ChineseSearch(SearchEnglish):
    """Chinese in pairs of characters; English words among them by their stems."""

    lang = "zh"  # language_name stays English: it names the stemmer that the page loads
    js_splitter_code = """
function splitQuery(query) {
  const runs = query.match(/[\\u3400-\\u4dbf\\u4e00-\\u9fff]+|[a-z0-9_]+/gi) ?? [];
  return runs.flatMap((run) =>
    /^[a-z0-9_]/i.test(run) || run.length === 1 ? [run] : [...run].slice(1).map((next, at) => run[at] + next));
}
"""

    def split(self, input: str) -> list[str]:
        """Return words, characters and pairs of characters."""
        terms: list[str] = []
        for run in _RUNS.findall(input):
            if _IS_HAN.match(run):
                terms += [*run, *map("".join, pairwise(run))]
            else:
                terms.append(run)
        return terms

    def word_filter(self, word: str) -> bool:
        """Return whether a word gets into the index."""
        return bool(_IS_HAN.match(word)) or super().word_filter(word)
