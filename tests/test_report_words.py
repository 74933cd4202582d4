"""What the report says in words, from outputs that are made up here."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gfnet_pl.data.manifest import Picture
from gfnet_pl.evaluation.figures import People, Promise
from gfnet_pl.report.advice import next_steps, nothing_stands_out
from gfnet_pl.report.analysis import Missing
from gfnet_pl.report.labels import Doubts
from gfnet_pl.report.words import (
    chance_words,
    first_sentence,
    fitted_words,
    hardest,
    hardest_words,
    out_of,
    second_sentences,
)
from gfnet_pl.run.facts import checkpoint_words
from gfnet_pl.run.folder import RunFolder
from gfnet_pl.run.learning_curve import LearningCurve
from gfnet_pl.run.results import Results, SetResults

CLASSES = ["A", "B", "C", "D"]


def outputs(split, groups, wrong=(), per_class=10):
    """A set in which every group has pictures of all classes; of those in `wrong`, (group, class), all go wrong."""
    pictures, labels, said = [], [], []
    for group in groups:
        for label, name in enumerate(CLASSES):
            for number in range(per_class):
                pictures.append(Picture(f"{split}/{name}/{group}{number}.png", name, split, group))
                labels.append(label)
                said.append((label + 1) % len(CLASSES) if (group, name) in wrong else label)
    logits = 4 * np.eye(len(CLASSES), dtype=np.float32)[said]
    return SetResults(pictures, np.array(labels), logits, logits)


def grown(thinned, *gain):
    """A learning curve whose last doubling brought `gain`."""
    return LearningCurve("", thinned, [], "unseen", "new people", True, 240, gain)


def a_run(sets, known=(), curve=(), epochs=3, settings=None, name="best.ckpt", learned=None, counts=(40, 40, 40, 40)):
    results = Results(CLASSES, {}, "pictures", "pictures", list(known), {each: sets[each] for each in sets})
    checkpoint = SimpleNamespace(
        path=Path(f"runs/x/version_0/checkpoints/{name}"), epochs=epochs, settings=settings or {}
    )
    curves = {"val/accuracy": list(enumerate(curve, 1))}
    return SimpleNamespace(
        results=results,
        checkpoint=checkpoint,
        curves=curves,
        trained_epochs=max(epochs, len(curve)),
        sessions=[],
        learning_curve=learned,
        training_counts=dict(zip(CLASSES, counts, strict=True)),
        folder=RunFolder(Path("runs/x/version_0")),
    )


WITHOUT_PICTURES = SimpleNamespace(pictures=Missing("gone"))
NEW = {
    "unseen": outputs("unseen", "abcdef", {("a", "B"), ("a", "C"), ("b", "B"), ("b", "C")}),
    "val": outputs("val", "xy"),
}


def steps(run):
    return [step.what for step in next_steps(run, WITHOUT_PICTURES)]


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.862, "8 to 9 of 10"),
        (0.80, "about 8 of 10"),
        (0.775, "about 8 of 10"),
        (0.74, "7 to 8 of 10"),
        (0.974, "about 97 of 100"),
        (0.9996, "about 99 of 100"),
        (0.95, "about 95 of 100"),
        (0.036, "about 4 of 100"),
        (0.001, "about 1 of 100"),
        (1.0, "all"),
        (0.0, "none"),
    ],
)
def test_a_share_is_said_in_small_numbers(share, words):
    assert out_of(share) == words


def test_the_first_sentence_is_of_new_people_if_there_are_any():
    run = a_run(NEW, known=["val"])
    assert run.results.trusted == "unseen"
    assert first_sentence(run) == "Right for 8 to 9 of 10 pictures of people it has not seen."
    assert second_sentences(run) == [
        "B and C go wrong most.",
        "Guessing would be right for 1 of 4.",
        "People differ: for the worst of these 6 (a) it is right for 50\u00a0%, for the best for 100\u00a0%.",
    ]


def test_a_few_pictures_are_counted_and_not_rounded():
    run = a_run({"test": outputs("test", ["x"], {("x", "B")}, per_class=1)}, known=["test"])
    assert first_sentence(run) == "Right for 3 of 4 pictures that it has not seen, of people it knows."


def test_what_is_fitted_on_known_people_is_promised_to_no_others():
    known = a_run({"val": outputs("val", "xy")}, known=["val"])
    assert "fitted on val. They hold for the same people only" in fitted_words(known)
    new = a_run(NEW, known=["val"])
    assert "fitted on unseen. They hold for new people: fitted on 6 whom training never saw" in fitted_words(new)
    assert "no set to fit" in fitted_words(a_run({"test": outputs("test", "xy")}, known=["test"]))


def test_without_new_people_none_are_promised_and_the_first_step_is_to_keep_some():
    for groups, words in (("xy", "of people it knows"), ([""], "that it has not seen")):
        run = a_run({"val": outputs("val", groups)}, known=["val"])
        assert first_sentence(run).startswith("Right for all of the pictures that it has not seen")
        assert words in first_sentence(run)
        assert "Nothing here says how good the net is on new people" in second_sentences(run)[-1]
        assert steps(run) == ["Find out how good it is for new people", "Use it on your own pictures"]


def test_names_are_asked_for_people_only_where_pictures_have_names():
    of_files = outputs("test", [""])
    packed = [each._replace(path=f"t10k-images.npz#{number}") for number, each in enumerate(of_files.pictures)]
    of_array = SetResults(packed, of_files.labels, of_files.logits, of_files.features)
    for test, named in ((of_files, True), (of_array, False)):
        first, _ = next_steps(a_run({"test": test}, known=["test"]), WITHOUT_PICTURES)
        assert first.what == "Find out how good it is for new people"
        assert ("group_by" in first.command) is named
        assert ("an .npz can say it" in first.why) is not named


def test_whose_pictures_a_set_has_decides_what_its_interval_is_for():
    run = a_run(NEW, known=["val"])
    new, same = (Promise.of(name, run.results.figures[name], ["val"]) for name in ("unseen", "val"))
    assert (new.people, new.over_people) == (People.NEW, True)
    assert (new.low, new.high) == run.results.figures["unseen"].new_groups
    accuracy = run.results.figures["val"].accuracy
    assert (same.people, same.low, same.high, same.over_people) == (People.SAME, accuracy.low, accuracy.high, False)
    of_nobody = a_run({"unseen": outputs("unseen", [""]), "test": outputs("test", [""])}).results.figures
    assert People.of("unseen", of_nobody["unseen"], ["unseen", "test"]) is People.NEW  # the folder's name says so
    assert People.of("test", of_nobody["test"], ["unseen", "test"]) is People.UNKNOWN


def test_a_class_that_is_most_of_a_set_is_the_level_of_chance():
    part = outputs("test", ["g"])
    most = SetResults(part.pictures, np.array([0] * 28 + [1] * 6 + [2] * 6), part.logits, part.features)
    figures = a_run({"test": most}).results.figures["test"]
    assert chance_words(figures, CLASSES) == "Always saying A would be right for 70\u00a0%."
    assert hardest_words(a_run({"test": part}).results.figures["test"]) == ""  # all are right


def test_classes_that_go_wrong_as_often_as_others_are_not_singled_out():
    wrong = {("a", name) for name in "ABCD"} | {("b", "B")}
    assert hardest(a_run({"test": outputs("test", "abc", wrong)}).results.figures["test"]) == ["B"]
    assert hardest(a_run({"test": outputs("test", "abc", wrong)}).results.figures["test"], most=1) == ["B"]
    two = {("a", "B"), ("a", "C")}
    assert hardest(a_run({"test": outputs("test", "abc", two)}).results.figures["test"]) == ["B", "C"]
    assert hardest(a_run({"test": outputs("test", "abc", two)}).results.figures["test"], most=1) == []


def test_the_next_step_follows_from_the_figures():
    plain, robust = ({"data.augment.rotation": value} for value in (0.0, 14.3))
    wrong = {(group, name) for group in "abcdef" for name in "BC"}
    fallen = {"val": outputs("val", "uvwxyz"), "unseen": outputs("unseen", "abcdef", wrong)}
    people = "What would help most: pictures of more people in training"
    assert steps(a_run(fallen, known=["val"], settings=plain))[0] == "Vary the training pictures"
    vary, *_ = next_steps(a_run(fallen, known=["val"], settings=plain), WITHOUT_PICTURES)
    assert vary.command == "gfnet fit --config runs/x/version_0/config.yaml --config robust.yaml"  # its net and data
    assert steps(a_run(fallen, known=["val"], settings=robust))[0] == people
    rising, flat = [0.2, 0.4, 0.6, 0.7], [0.2, 0.6, 0.7, 0.7]
    good = {"val": NEW["val"], "unseen": NEW["val"]}
    assert steps(a_run(good, known=["val"], curve=rising)) == ["Train longer", "Use it on your own pictures"]
    assert steps(a_run(good, known=["val"], curve=flat)) == ["Use it on your own pictures"]


def test_what_would_help_most_is_what_most_points_are_lost_for():
    robust = {"data.augment.rotation": 14.3}
    wrong = {(group, name) for group in "abcdef" for name in "BC"}
    fallen = {"val": outputs("val", "uvwxyz"), "unseen": outputs("unseen", "abcdef", wrong)}

    def first(sets=fallen, **facts):
        return next_steps(a_run(sets, known=["val"], settings=robust, **facts), WITHOUT_PICTURES)[0]

    assert "falls by 50 points on people it has not seen (95 %: " in first().why
    helped, useless = grown("people", 0.041, 0.01, 0.072), grown("people", 0.0, -0.01, 0.008)
    assert "; twice as many people brought 4.1 points on unseen" in first(learned=helped).why
    assert first(learned=useless).what == "Use it on your own pictures"  # more people no longer pay
    one = {"val": outputs("val", "uvwxyz"), "unseen": outputs("unseen", "abcdef", {(each, "B") for each in "abcde"})}
    few = first(one, learned=useless, counts=(40, 20, 40, 40))
    assert few.what == "What would help most: more pictures of B"
    assert few.why.startswith(
        "It has 20 training pictures, and most classes have about 40. On unseen 10 of 60 are right"
    )
    assert first(one, learned=useless).what == "Use it on your own pictures"  # it has as many as the others
    doubts = Doubts([], None, [], suspected=5, pictures=160)
    unclean = SimpleNamespace(doubts=doubts, leaks={}, overlap=SimpleNamespace(pairs=[]))
    (step, *_) = next_steps(
        a_run(one, known=["val"], settings=robust, learned=useless), SimpleNamespace(pictures=unclean)
    )
    assert (step.what, step.link) == ("What would help most: cleaner labels", "labels")
    assert step.why.startswith("5 of 160 training pictures (3.1\u00a0%) were far harder to learn")
    few = SimpleNamespace(doubts=replace(doubts, suspected=1), leaks={}, overlap=unclean.overlap)  # as of right labels
    (step, *_) = next_steps(a_run(one, known=["val"], settings=robust, learned=useless), SimpleNamespace(pictures=few))
    assert step.what == "Use it on your own pictures"
    good = {"val": outputs("val", "uv"), "unseen": outputs("unseen", "abcdef")}
    assert first(good, learned=grown("pictures", 0.041, 0.01, 0.072)).what == "What would help most: more pictures"
    unknown = nothing_stands_out(a_run(good, known=["val"]), WITHOUT_PICTURES)
    assert unknown.startswith("Neither more people,")
    assert "gfnet curve" in unknown
    assert "gfnet curve" not in nothing_stands_out(a_run(good, known=["val"], learned=useless), WITHOUT_PICTURES)
    assert nothing_stands_out(a_run(fallen, known=["val"], settings=robust), WITHOUT_PICTURES) == ""
    assert steps(a_run(NEW, known=["val"]))[-2:] == [
        "Find out whether more pictures would help",
        "Use it on your own pictures",
    ]
    assert first(good, learned=useless).what == "Use it on your own pictures"


def test_the_checkpoint_is_named_with_its_epoch():
    run = a_run(NEW, epochs=18, curve=[0] * 20)
    assert checkpoint_words(run) == "best.ckpt: epoch 18 of 20, the best one on validation pictures"
    run.sessions = [{"best": {"epoch": 20, "by": "last"}}]
    assert "the last one, as so few validation pictures cannot choose" in checkpoint_words(run)
    run.sessions = [{"best": {"epoch": 18}}]  # of a version that chose by accuracy alone
    assert "the one with the highest accuracy on" in checkpoint_words(run)
    assert checkpoint_words(a_run(NEW, epochs=20, name="last.ckpt")) == "last.ckpt: after 20 epochs"
