"""The texts of a report: what it says first, the finding of each section, and what was trained on which data."""

import re
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from gfnet_pl.evaluation.figures import People, Promise, SetFigures, people
from gfnet_pl.run.run import Run

_MOST_NAMES = 4
NONE = "\u2013"
_FEW = 20  # pictures, below which their exact number is said
_LONG = 30  # characters, from which a word of a command may break


def percent(share: float | None, digits: int = 0) -> str:
    """A share as "85 %" that does not break at the end of a line; a dash for None."""
    return NONE if share is None else f"{100 * share:.{digits}f}\u00a0%"


def breakable(text: str) -> Markup:
    """A path or a name that may break after each of its parts."""
    return Markup("".join(f"{escape(part)}<wbr>" for part in re.split(r"(?<=[/_-])", text)))


def capitalised(sentence: str) -> str:
    """A sentence with a large first letter; the rest stays as it is."""
    return sentence[:1].upper() + sentence[1:]


def command(words: str) -> Markup:
    """A command whose lines break between its words; within them only in long ones, as in paths."""
    short = Markup("<span>{}</span>")
    spans = (breakable(word) if len(word) > _LONG else short.format(word) for word in words.split(" "))
    return Markup(" ").join(spans)


def out_of(share: float) -> str:
    """A share in small whole numbers: "about 8 of 10", "8 to 9 of 10" or "about 97 of 100"; below 1 never "all"."""
    if share in (0.0, 1.0):
        return "all" if share else "none"
    if share < 0.07 or share > 0.93:
        return f"about {min(99, max(1, round(100 * share)))} of 100"
    tenths = 10 * share
    if abs(tenths - round(tenths)) <= 0.3:
        return f"about {round(tenths)} of 10"
    return f"{int(tenths)} to {int(tenths) + 1} of 10"


def first_sentence(run: Run) -> str:
    """How good the net is, in plain words."""
    name = run.results.trusted
    figures = run.results.figures[name]
    accuracy = figures.accuracy
    right = f"{accuracy.right} of {accuracy.images}"
    if accuracy.images >= _FEW:
        right = out_of(accuracy.share or 0.0)
    right += " of the pictures" if right in ("all", "none") else " pictures"
    whose = {
        People.NEW: " of people it has not seen",
        People.SAME: " that it has not seen, of people it knows",
        People.UNKNOWN: " that it has not seen",
    }
    return f"Right for {right}{whose[People.of(name, figures, run.results.known)]}."


def second_sentences(run: Run) -> list[str]:
    """The classes that go wrong most, the level of chance, and how far people differ."""
    name = run.results.trusted
    figures = run.results.figures[name]
    sentences = [hardest_words(figures), chance_words(figures, run.results.classes)]
    whose = People.of(name, figures, run.results.known)
    judged = people(figures)
    if len(judged) > 1 and whose is People.NEW:
        (worst, lowest), (_, highest) = judged[0], judged[-1]
        sentences.append(
            f"People differ: for the worst of these {len(judged)} ({worst}) it is right for {percent(lowest.share)}, "
            f"for the best for {percent(highest.share)}."
        )
    if whose is not People.NEW:
        sentences.append(
            "Nothing here says how good the net is on new people: no set is known to hold people whom training never "
            "saw."
        )
    return [sentence for sentence in sentences if sentence]


def hardest(figures: SetFigures, most: int = _MOST_NAMES) -> list[str]:
    """The classes with the lowest recall, lowest first.

    Only those below the accuracy of the set are among them, and none whose equals would have to be left out.
    """
    overall = figures.accuracy.share or 0.0
    recall = {name: of.recall.share for name, of in figures.classes.items() if of.recall.share is not None}
    low = sorted((share, name) for name, share in recall.items() if share < overall)
    return [name for share, name in low[:most] if len(low) <= most or share < low[most][0]]


def hardest_words(figures: SetFigures) -> str:
    """A sentence about the classes that go wrong most; empty if none stands out."""
    names = hardest(figures)
    if not names:
        return ""
    return f"{listed(names)} {'goes' if len(names) == 1 else 'go'} wrong most."


def chance_words(figures: SetFigures, classes: Sequence[str]) -> str:
    """What guessing would reach, in a sentence: the share of the most frequent class of the set."""
    if len(classes) == 1:
        return f"There is only one class, {classes[0]}, so there is nothing to tell apart."
    name, most = max(figures.classes.items(), key=lambda item: item[1].recall.images)
    share = most.recall.images / figures.accuracy.images
    if share < 1.5 / len(classes):
        return f"Guessing would be right for 1 of {len(classes)}."
    return f"Always saying {name} would be right for {percent(share)}."


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "A", "A and B", "A, B and C"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def promise_words(promise: Promise) -> str:
    """For whom the interval of a set holds, in a few words."""
    if promise.people is People.NEW and not promise.over_people:
        return "new people, but too few of known name to speak for others"
    return promise.people.value


def fitted_words(run: Run) -> str:
    """On what temperature and thresholds were fitted, and for whom they hold."""
    name, calibration = run.results.fitted_on, run.results.calibration
    if name is None:
        return "There is no set to fit temperature and thresholds on."
    words = f"Temperature and thresholds were fitted on {name}. They hold {calibration.promise}."
    if calibration.new_groups:
        words += f" The figures of {name} are those of each person by what is fitted on the others."
    return words


def gap_words(run: Run) -> str:
    """A sentence about the difference in accuracy between known and unknown groups."""
    distance = run.results.gap
    if distance is None:
        return "There is no gap to state: it takes an unseen set, and a holdout or validation set of known groups."
    return capitalised(distance.sentence) + "."


def confusion_words(figures: SetFigures, classes: Sequence[str]) -> str:
    """The most frequent mistake of a set."""
    counts = np.array(figures.confusion)
    np.fill_diagonal(counts, 0)
    if not counts.any():
        return "No picture of this set went wrong."
    label, said = divmod(int(counts.argmax()), len(counts))
    images = figures.classes[classes[label]].recall.images
    return f"Most often {classes[label]} is taken for {classes[said]}: {counts[label, said]} of {images} pictures."


def people_words(figures: SetFigures) -> str:
    """How far the people of a set differ; empty if fewer than two have enough pictures."""
    judged = people(figures)
    if len(judged) < 2:
        return ""
    (worst, lowest), (_, highest) = judged[0], judged[-1]
    median = float(np.median([share.share for _, share in judged]))
    return (
        f"Of {len(judged)} people {worst} is the worst, with {lowest.right} of {lowest.images} right "
        f"({percent(lowest.share)}). The median is {percent(median)}, the best {percent(highest.share)}."
    )


def trust_words(figures: SetFigures) -> str:
    """Whether probabilities are too high or too low on a set, in a sentence."""
    images = sum(each.images for each in figures.bins)
    mean = sum(each.images * each.confidence for each in figures.bins) / images
    right = figures.accuracy.share or 0.0
    how = "about as sure as it is right" if abs(mean - right) < 0.02 else "surer than it is right"
    if mean < right - 0.02:
        how = "less sure than it could be"
    return f"Here the net is {how}: its mean probability is {percent(mean)}, and {percent(right)} are right."
